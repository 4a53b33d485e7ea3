// Refusals as HTTP responses: OpenAI's error object with the headers that belong to it.
//
//   responder->Send(ErrorResponse(absl::NotFoundError("no such model")));
#ifndef TESSERA_COORDINATOR_HTTP_ERROR_RESPONSES_H_
#define TESSERA_COORDINATOR_HTTP_ERROR_RESPONSES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/http/http_message.h"

namespace tessera::coordinator {

// With Retry-After where waiting helps and WWW-Authenticate where a key does.
HttpResponse ErrorResponse(const absl::Status& why);

// What HTTP refuses before there is a status: 404 of a path, 405, 408, 413, 415, 431 ...
HttpResponse HttpErrorResponse(int status, absl::string_view message);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_ERROR_RESPONSES_H_
