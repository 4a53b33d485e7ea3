// The life of one rank, from its start to its exit status:
//
//   open the model · start the health service        then all ranks agree
//   join the coordinator (leader), hear the plan     then all ranks agree
//   load the shard                                   then all ranks agree
//   serve                                            until the leader is told to end
//   find the coordinator again (leader), serve on    when it was lost while the group served
//
// A failure is printed once, as one line, by the rank that knows it best; that rank also tells the
// coordinator. mpirun then ends the others.
//
// Threads: Run on the main thread, which becomes the engine thread (MPI). OnSignal and the end of
// the leader's stream come from other threads.
#ifndef TESSERA_WORKER_GROUP_RANK_LIFECYCLE_H_
#define TESSERA_WORKER_GROUP_RANK_LIFECYCLE_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/mutex.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/core_shares.h"
#include "worker/engine/rank_engine.h"
#include "worker/engine/step_clock.h"
#include "worker/files/model_file.h"
#include "worker/group/cluster_link.h"
#include "worker/group/health_server.h"
#include "worker/group/rank_reporter.h"
#include "worker/group/worker_options.h"

namespace tessera::worker {

class RankLifecycle {
 public:
  explicit RankLifecycle(const WorkerOptions& options) : options_(options) {}

  // The exit status: 0 after an orderly end, else 1. Whoever calls it leaves with ExitNow: a
  // failed rank's members are not destroyed in order.
  int Run();

  // SIGTERM or SIGINT, on the signal thread: ends the process soon.
  void OnSignal(int number);

 private:
  void NoteStartup(absl::string_view point);
  absl::Status Prepare();
  absl::StatusOr<v1::ShardPlan> Join();
  absl::Status CheckRoom(const v1::ShardPlan& plan) const;
  absl::Status Load(const v1::ShardPlan& plan);
  absl::Status Serve();
  absl::StatusOr<bool> Rejoin();
  void Leave();

  absl::Status OpenAndListen();
  absl::Status ChooseGpu();
  absl::Status CheckDeviceTakes(const v1::ModelDescription& model) const;
  CoreShares Shares() const;
  absl::StatusOr<int64_t> OwnFreeMemory() const;
  absl::StatusOr<std::vector<int64_t>> GatherFreeMemory(int64_t mine);
  absl::StatusOr<v1::ShardPlan> JoinAsLeader(absl::Duration connect_timeout);
  std::string PlanOfNextCoordinator();
  void StartReporting(const std::string& group_id);
  void OnLinkEnd(const absl::Status& why);

  // Goes on only if every rank is well: otherwise prints and reports where it is this rank's turn.
  absl::Status AllWell(const absl::Status& mine, absl::Duration timeout);
  void Complain(const absl::Status& why);
  bool leader() const { return world_rank_ == 0; }
  HealthServer* health();
  RankReporter* reporter();
  ClusterLink* link();

  const WorkerOptions options_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<ModelFile> file_;
  StepClock clock_;
  std::unique_ptr<RankEngine> engine_;
  std::string group_id_;  // the leader's choice
  std::string plan_;      // what is loaded: a serialized v1::ShardPlan
  int threads_ = 1;         // that compute, once there is a plan
  std::optional<int> gpu_;  // that this rank computes on, if it does
  int ranks_on_gpu_ = 1;
  std::vector<int64_t> free_memory_;  // of the GPUs, by world rank; empty on CPUs

  std::atomic<int> world_rank_{-1};   // -1 until MPI is up
  std::atomic<int> exit_code_{0};     // of an end in order: 1 when the coordinator was lost
  std::atomic<bool> ending_{false};   // asked to end: failures that follow are no news
  std::atomic<bool> serving_{false};  // the engine takes plans
  std::atomic<bool> coordinator_lost_{false};  // while serving; nobody asked for the end

  // Shared with the signal thread; set by the main thread, and never destroyed before the process
  // ends.
  Mutex mu_;
  std::unique_ptr<HealthServer> health_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<RankReporter> reporter_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<ClusterLink> link_ ABSL_GUARDED_BY(mu_);  // leader only
  std::vector<std::unique_ptr<ClusterLink>> old_links_ ABSL_GUARDED_BY(mu_);  // to coordinators lost
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_RANK_LIFECYCLE_H_
