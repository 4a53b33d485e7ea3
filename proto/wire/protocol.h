// What both ends of the cluster's gRPC streams must have in common.
//
//   hello.set_protocol_version(wire::kProtocolVersion);
#ifndef TESSERA_PROTO_WIRE_PROTOCOL_H_
#define TESSERA_PROTO_WIRE_PROTOCOL_H_

namespace tessera::wire {

// Goes up with every change of cluster.proto, plan or description that an older peer would misread.
inline constexpr int kProtocolVersion = 4;

}  // namespace tessera::wire

#endif  // TESSERA_PROTO_WIRE_PROTOCOL_H_
