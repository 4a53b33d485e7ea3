// What both ends of the cluster's gRPC streams must have in common.
//
//   hello.set_protocol_version(wire::kProtocolVersion);
#ifndef TESSERA_PROTO_WIRE_PROTOCOL_H_
#define TESSERA_PROTO_WIRE_PROTOCOL_H_

namespace tessera::wire {

// Goes up with every change of cluster.proto, plan or description that an older peer would misread.
inline constexpr int kProtocolVersion = 4;

// To the coordinator: a description carries a whole tokenizer.
inline constexpr int kMaxGroupMessageBytes = 256 << 20;
// To a group: a plan of a step of many tokens.
inline constexpr int kMaxCoordinatorMessageBytes = 64 << 20;

}  // namespace tessera::wire

#endif  // TESSERA_PROTO_WIRE_PROTOCOL_H_
