// The gRPC server clients call: tessera.v1.Inference, grpc.health.v1 and server reflection.
//
// Health of "" and of "tessera.v1.Inference" is SERVING while a group serves and the router
// does not drain. Start and the destructor belong to one thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto server, ApiServer::Start({.port = 50051}, context));
//   print(server->port());
//   server->Shutdown(absl::Seconds(1));
#ifndef TESSERA_COORDINATOR_GRPC_SERVER_H_
#define TESSERA_COORDINATOR_GRPC_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/front/access.h"
#include "coordinator/front/front_door.h"
#include "coordinator/router/router.h"

namespace tessera::coordinator {

struct ApiServerOptions {
  std::string host = "127.0.0.1";
  int port = 50051;  // 0: chosen by the system
  int max_receive_bytes = 8 * 1024 * 1024;  // as HttpDoorOptions::max_body_bytes
};

// All borrowed; they outlive the server.
struct ApiServerContext {
  Router* router = nullptr;  // for the health service
  FrontDoor* front = nullptr;
  const Access* access = nullptr;
};

class ApiServer {
 public:
  // UNAVAILABLE naming host, port and flag when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const ApiServerOptions& options,
                                                          const ApiServerContext& context);
  // Shuts down at once if Shutdown has not been called.
  virtual ~ApiServer() = default;

  virtual int port() const = 0;
  // Stops listening; calls still open after `grace` are cancelled.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_SERVER_H_
