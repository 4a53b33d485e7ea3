// Errors with machine-readable details. The details travel as absl::Status payloads (type URL →
// serialized message) and become google.rpc details on the wire (grpc_status.h).
//
//   return FieldError("sampling.temperature", "is NaN; expected 0 .. 100");
#ifndef TESSERA_PROTO_WIRE_STATUS_BUILDERS_H_
#define TESSERA_PROTO_WIRE_STATUS_BUILDERS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tessera::wire {

// INVALID_ARGUMENT "<field> <what>" with a google.rpc.BadRequest detail naming the field.
absl::Status FieldError(absl::string_view field, absl::string_view what);

// RESOURCE_EXHAUSTED with a google.rpc.RetryInfo detail.
absl::Status OverloadedError(absl::string_view message, absl::Duration retry_after);

// The RetryInfo of a status, if it carries one.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

}  // namespace tessera::wire

#endif  // TESSERA_PROTO_WIRE_STATUS_BUILDERS_H_
