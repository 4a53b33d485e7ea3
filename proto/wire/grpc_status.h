// absl::Status ↔ grpc::Status. Payloads whose type URL is a google.rpc detail travel in
// grpc-status-details-bin and come back on the other side.
#ifndef TESSERA_PROTO_WIRE_GRPC_STATUS_H_
#define TESSERA_PROTO_WIRE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace tessera::wire {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace tessera::wire

#endif  // TESSERA_PROTO_WIRE_GRPC_STATUS_H_
