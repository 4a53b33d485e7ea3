// Where an error came up, put in front of what it says.
//
//   return Annotate(status, "tp_rank 1");   // "tp_rank 1: ..."
#ifndef TESSERA_PROTO_BASE_ANNOTATE_H_
#define TESSERA_PROTO_BASE_ANNOTATE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tessera {

// The code and payloads of `status` with "<prefix>: " before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_ANNOTATE_H_
