// What is known of a group: the plan it was given and what its ranks reported, as one
// v1::GroupStatus for people and clients.
//
// Threads: every method may be called from any thread.
//
//   state.SetPlan(hello.model().name(), plan);   // from OnJoin
//   state.AddReport(report);                     // from OnRankReport
//   *response.add_groups() = state.Snapshot();
#ifndef TESSERA_COORDINATOR_GROUP_GROUP_STATE_H_
#define TESSERA_COORDINATOR_GROUP_GROUP_STATE_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "proto/base/mutex.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/inference.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

class GroupState {
 public:
  // A group joined: forgets the group before it. State LOADING, one RankStatus per rank.
  void SetPlan(const std::string& model_name, const v1::ShardPlan& plan);
  // A report of a rank outside the plan is INVALID_ARGUMENT and changes nothing.
  absl::Status AddReport(const v1::RankReport& report);
  void SetReady();
  // OK: the group left in order (the state goes back to STARTING); otherwise FAILED with why.
  void SetLost(const absl::Status& why);

  v1::GroupStatus Snapshot() const;
  // Sum over the ranks that reported, and of the plan's weights: for a progress bar.
  struct Progress {
    int64_t bytes_loaded = 0;
    int64_t bytes_total = 0;
  };
  Progress progress() const;

 private:
  mutable Mutex mu_;
  v1::GroupStatus status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_GROUP_STATE_H_
