// The coordinator's side of a worker group.
//
// GroupTransport is the seam: the gRPC stream of a real group, or an in-process fake for tests and
// simulated groups. Calls may come from any thread. GroupObserver's calls come from the transport's
// threads, one at a time per group, and must not block.
//
//   joined → (plan chosen by OnJoin) → rank reports ... → OnReady → OnStepResult ... → OnLost
#ifndef TESSERA_COORDINATOR_GROUP_GROUP_H_
#define TESSERA_COORDINATOR_GROUP_GROUP_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

class GroupTransport {
 public:
  virtual ~GroupTransport() = default;
  // Queues the plan; UNAVAILABLE once the group is lost.
  virtual absl::Status SendPlan(const v1::StepPlan& plan) = 0;
  // Tells the group to end in order. OnLost follows when it is gone.
  virtual void Shutdown(const std::string& reason) = 0;
};

class GroupObserver {
 public:
  virtual ~GroupObserver() = default;
  // A leader said hello. Answers with the plan, or with the reason to turn the group away (which is
  // sent to the leader and ends its job).
  virtual absl::StatusOr<v1::ShardPlan> OnJoin(const v1::Hello& hello,
                                               std::shared_ptr<GroupTransport> transport) = 0;
  virtual void OnRankReport(const v1::RankReport& report) = 0;
  virtual void OnReady() = 0;
  virtual void OnStepResult(v1::StepResult result) = 0;
  // The stream ended: OK after a Shutdown, otherwise why (one clear line). Called once per join.
  virtual void OnLost(absl::Status why) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_GROUP_H_
