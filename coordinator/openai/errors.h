// absl::Status → HTTP status and OpenAI's error object
// {"error":{"message":...,"type":...,"param":...,"code":...}}. Pure.
//
//   std::string body = ErrorObject(wire::FieldError("temperature", "is a string; expected a number"));
#ifndef TESSERA_COORDINATOR_OPENAI_ERRORS_H_
#define TESSERA_COORDINATOR_OPENAI_ERRORS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

int HttpStatusOf(absl::StatusCode code);

// The error object alone, as a stream carries it. `param` is the field that the status names
// (google.rpc.BadRequest), in the words of the HTTP API: "sampling.top_k" is "top_k".
std::string ErrorObject(const absl::Status& why);

// Of what HTTP refuses before there is a status.
std::string ErrorObject(int http_status, absl::string_view message);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_ERRORS_H_
