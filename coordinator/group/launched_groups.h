// The worker groups that this process starts, each an mpirun job, and starts again when they are
// lost: with a backoff that doubles while they do not come to serve, and only so often.
//
// A job ends with its group: one that hangs is killed as soon as the coordinator has given its group
// up. Each start has a group id of its own, "group0.1", "group0.2": the place among the launched
// ones and the number of the start.
//
// Used on one thread, which calls Tick often; only the jobs' output is told on theirs.
//
//   LaunchedGroups groups({.launch = launch, .count = 2}, cluster.get(), tell);
//   TESSERA_RETURN_IF_ERROR(groups.Start());
//   TESSERA_RETURN_IF_ERROR(groups.Tick(router->Status(), absl::Now()));
#ifndef TESSERA_COORDINATOR_GROUP_LAUNCHED_GROUPS_H_
#define TESSERA_COORDINATOR_GROUP_LAUNCHED_GROUPS_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/group/cluster_service.h"
#include "coordinator/group/launcher.h"
#include "proto/base/mutex.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct LaunchedGroupsOptions {
  LaunchOptions launch;  // its group_id is set for each start
  int count = 1;         // groups
  // Starts in a row that do not come to serve, after which a group is given up. Before any group
  // has served the first one counts. 0: a group that is lost is not started again at all.
  int max_relaunches = 5;
};

// When a group that was lost starts again. Pure.
struct RelaunchBackoff {
  int failures = 0;  // starts in a row that did not come to serve

  // `served`: how long the last start did; zero: it did not come to that.
  absl::Duration After(absl::Duration served);
};

class LaunchedGroups {
 public:
  using Tell = std::function<void(const std::string& line)>;

  // `cluster` and what `on_line` (of what jobs print; any thread) needs outlive it. `tell` hears of
  // what happens, one line at a time.
  LaunchedGroups(LaunchedGroupsOptions options, ClusterService* cluster,
                 Launcher::LineCallback on_line, Tell tell);
  // Ends what still runs.
  ~LaunchedGroups();

  // NOT_FOUND when mpirun cannot be started.
  absl::Status Start();

  // What has ended since is started again when its time has come. An error when nothing is left to
  // wait for: no group came to serve, or the last one is given up; one line, why.
  absl::Status Tick(const v1::GetClusterStatusResponse& status, absl::Time now);

  // Whether every group that is not given up serves.
  bool AllServe(const v1::GetClusterStatusResponse& status) const;
  // Waits until every job has ended, up to `timeout`.
  void AwaitEnd(absl::Duration timeout);
  void Terminate(absl::Duration grace);

 private:
  struct Slot {
    int index = 0;
    int starts = 0;
    std::string group_id;           // of the start under way
    std::unique_ptr<Launcher> job;  // null: waits, or given up
    absl::Time serving_since = absl::InfiniteFuture();
    absl::Time relaunch_at = absl::InfiniteFuture();
    RelaunchBackoff backoff;
    std::string said;  // of the group about its loss
    bool given_up = false;
  };
  struct Exit {
    std::string group_id;
    absl::Status how;
  };

  absl::Status Launch(Slot* slot);
  void Look(const v1::GetClusterStatusResponse& status, absl::Time now, Slot* slot);
  absl::Status Ended(const absl::Status& how, absl::Time now, Slot* slot);
  void EndJob(Slot* slot);
  std::optional<absl::Status> TakeExit(const std::string& group_id);

  const LaunchedGroupsOptions options_;
  ClusterService* const cluster_;
  const Launcher::LineCallback on_line_;
  const Tell tell_;
  std::vector<Slot> slots_;
  bool any_served_ = false;  // ever

  Mutex mu_;
  CondVar ended_;
  std::vector<Exit> exits_ ABSL_GUARDED_BY(mu_);  // that Tick has not seen
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_LAUNCHED_GROUPS_H_
