#include "coordinator/http/error_responses.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "coordinator/openai/errors.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {

HttpResponse ErrorResponse(const absl::Status& why) {
  HttpResponse response = HttpResponse::Json(HttpStatusOf(why.code()), ErrorObject(why));
  const std::optional<absl::Duration> retry_after = wire::RetryAfter(why);
  if (retry_after || response.status == 503) {
    const absl::Duration wait = absl::Ceil(retry_after.value_or(absl::Seconds(1)), absl::Seconds(1));
    response.headers.push_back(
        {"Retry-After", absl::StrCat(std::max<int64_t>(1, absl::ToInt64Seconds(wait)))});
  }
  if (response.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

HttpResponse HttpErrorResponse(int status, absl::string_view message) {
  HttpResponse response = HttpResponse::Json(status, ErrorObject(status, message));
  if (status == 503) response.headers.push_back({"Retry-After", "1"});
  return response;
}

}  // namespace tessera::coordinator
