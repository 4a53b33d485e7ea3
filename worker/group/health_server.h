// grpc.health.v1 of one rank: NOT_SERVING until SetServing(true).
//
// Threads: gRPC's own; methods from any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto health, HealthServer::Start("127.0.0.1", 0));
//   health->SetServing(true);
#ifndef TESSERA_WORKER_GROUP_HEALTH_SERVER_H_
#define TESSERA_WORKER_GROUP_HEALTH_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tessera::worker {

class HealthServer {
 public:
  // port 0: chosen by the system. UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HealthServer>> Start(const std::string& host, int port);
  virtual ~HealthServer() = default;

  virtual int port() const = 0;
  virtual void SetServing(bool serving) = 0;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_HEALTH_SERVER_H_
