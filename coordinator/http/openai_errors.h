// absl::Status → HTTP status and OpenAI's error object
// {"error":{"message":...,"type":...,"param":...,"code":...}}.
//
//   HttpResponse refusal = ErrorResponse(FieldError("temperature", "is a string; expected a number"));
#ifndef TESSERA_COORDINATOR_HTTP_OPENAI_ERRORS_H_
#define TESSERA_COORDINATOR_HTTP_OPENAI_ERRORS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/http/http_message.h"

namespace tessera::coordinator {

int HttpStatusOf(absl::StatusCode code);

// The error object alone, as a stream carries it. `param` is the field that the status names
// (google.rpc.BadRequest), in the words of the HTTP API: "sampling.top_k" is "top_k".
std::string ErrorObject(const absl::Status& why);

// With Retry-After where waiting helps and WWW-Authenticate where a key does.
HttpResponse ErrorResponse(const absl::Status& why);

// What HTTP refuses before there is a status: 404 of a path, 405, 408, 413, 415, 431 ...
HttpResponse HttpErrorResponse(int status, absl::string_view message);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_OPENAI_ERRORS_H_
