// "HOST:PORT" as gRPC and people write it.
#ifndef TESSERA_PROTO_WIRE_HOST_PORT_H_
#define TESSERA_PROTO_WIRE_HOST_PORT_H_

#include <string>

namespace tessera::wire {

// An IPv6 literal goes into brackets: "::1", 80 → "[::1]:80".
std::string HostPort(const std::string& host, int port);

}  // namespace tessera::wire

#endif  // TESSERA_PROTO_WIRE_HOST_PORT_H_
