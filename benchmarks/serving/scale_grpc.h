// The gRPC end of tessera_scheduler_scale, apart because gRPC's headers are slow to compile: a
// server on the loopback in this process, its clients in another one.
#ifndef TESSERA_BENCHMARKS_SERVING_SCALE_GRPC_H_
#define TESSERA_BENCHMARKS_SERVING_SCALE_GRPC_H_

#include <memory>
#include <string>

#include "coordinator/front/front_door.h"
#include "coordinator/router/router.h"

namespace tessera::benchmarks {

class GrpcScale {
 public:
  // Both borrowed; exits with a message when no port can be had.
  static std::unique_ptr<GrpcScale> Start(coordinator::Router* router,
                                          coordinator::FrontDoor* door);
  virtual ~GrpcScale() = default;

  virtual void StartClients(const std::string& program, int streams, int tokens) = 0;
  virtual int WaitForClients() = 0;  // how many streams failed
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SCALE_GRPC_H_
