// "HOST:PORT" as gRPC and people write it.
#ifndef TESSERA_PROTO_BASE_HOST_PORT_H_
#define TESSERA_PROTO_BASE_HOST_PORT_H_

#include <string>

namespace tessera {

// An IPv6 literal goes into brackets: "::1", 80 → "[::1]:80".
std::string HostPort(const std::string& host, int port);

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_HOST_PORT_H_
