// One life of `tessera serve`: the doors open, worker groups launched or awaited, watched and started
// again while they serve, and everything taken down again.
//
// Used on the main thread. Whatever way Run ends, no process that it started is left.
//
//   absl::Status status = ServeSession(options).Run();   // OK after Ctrl-C or SIGTERM
#ifndef TESSERA_COORDINATOR_CLI_SERVE_SESSION_H_
#define TESSERA_COORDINATOR_CLI_SERVE_SESSION_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/front/access.h"
#include "coordinator/front/front_door.h"
#include "coordinator/front/text_worker.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/grpc/server.h"
#include "coordinator/cli/interrupts.h"
#include "coordinator/cli/load_display.h"
#include "coordinator/group/cluster_service.h"
#include "coordinator/group/launched_groups.h"
#include "coordinator/group/launcher.h"
#include "coordinator/http/http_door.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/router/router.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

struct ServeOptions {
  std::string model;  // as the workers see it
  std::string load_format;
  std::string quantization;
  EngineOptions engine;  // tenants' weights, steps in flight and metrics are the session's to add
  int data_parallel = 1;            // groups to launch
  int max_relaunches = 5;           // as LaunchedGroupsOptions has it
  ReplayOptions replay;
  int threads_per_rank = 0;         // 0: the worker's default
  std::string instruction_set;      // empty: likewise
  std::string device, comm;         // empty: the worker's defaults
  bool deterministic = false;       // of the workers' GPUs
  double comm_timeout_seconds = 0;  // 0: the worker's default
  std::string host = "127.0.0.1";
  int grpc_port = 50051;
  int http_port = 8000;
  bool http = true;
  AccessOptions access;
  std::string cluster_host = "127.0.0.1";
  int cluster_port = 50052;
  bool external = false;  // wait for groups instead of launching one
  std::vector<std::string> mpirun_args;
  absl::Duration shutdown_timeout = absl::Seconds(30);
  std::string ready_file;  // gets the doors' HOST:PORT, gRPC's first, once a group serves
  bool verbose = false;    // show what the workers print
};

// What the workers' command lines get beyond what LaunchOptions has a field for.
std::vector<std::string> WorkerArguments(const ServeOptions& options);

class ServeSession {
 public:
  explicit ServeSession(ServeOptions options);
  ~ServeSession();

  // OK after an interrupt; otherwise one line that says what failed.
  absl::Status Run();

 private:
  absl::Status Open();
  absl::Status OpenDoors();
  absl::Status Launch();
  absl::Status Watch();
  absl::Status Observe();
  absl::Status Announce(const v1::GetClusterStatusResponse& status);
  void TellLosses(const v1::GetClusterStatusResponse& status);
  void Tell(const std::string& line);  // what happens to groups; one line
  void Drain();
  void Close();

  LaunchOptions WhatToLaunch() const;
  std::string WorkerAddress() const;        // HOST:PORT that workers join
  EngineOptions WholeEngineOptions() const;
  int world_size() const;

  const ServeOptions options_;
  Interrupts interrupts_;
  LoadDisplay display_;
  bool announced_ = false;      // that it serves
  bool told_waiting_ = false;   // external groups: that none is left
  int64_t last_loss_ = 0;       // told of; unix milliseconds

  // Each needs those above it.
  std::unique_ptr<const Access> access_;
  std::unique_ptr<Metrics> metrics_;
  std::shared_ptr<TextWorker> text_worker_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<HttpDoor> http_;  // null with --no-http
  std::unique_ptr<ClusterService> cluster_;
  std::unique_ptr<LaunchedGroups> launched_;  // null: they are external
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_SERVE_SESSION_H_
