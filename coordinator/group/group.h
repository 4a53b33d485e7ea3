// The seam between the coordinator and its worker groups.
//
// GroupTransport is a group as seen from above: the gRPC stream of a real group, or an in-process
// one for tests and simulated groups. Calls may come from any thread. GroupObserver hears of all
// groups, from the transports' threads, one call at a time per group, and must not block.
//
//   joined → (plan chosen by OnJoin) → rank reports ... → OnReady → OnStepResult ... → OnLost
//
//   TESSERA_ASSIGN_OR_RETURN(JoinedGroup joined, observer->OnJoin(hello, transport));
//   observer->OnReady(joined.handle);
#ifndef TESSERA_COORDINATOR_GROUP_GROUP_H_
#define TESSERA_COORDINATOR_GROUP_GROUP_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

// Which group a call is about: drawn by the observer when the group joins, and that of no other
// group before or after it.
enum class GroupHandle : int64_t {};

struct JoinedGroup {
  GroupHandle handle{};
  v1::ShardPlan plan;
};

// One group's: it needs no handle.
class GroupTransport {
 public:
  virtual ~GroupTransport() = default;
  // Queues the plan, which is the caller's again when this returns; UNAVAILABLE once the group is
  // lost.
  virtual absl::Status SendPlan(const v1::StepPlan& plan) = 0;
  // Tells the group to end in order. OnLost follows when it is gone.
  virtual void Shutdown(const std::string& reason) = 0;
  // Ends it without waiting for an answer: it hangs. OnLost follows.
  virtual void Abandon(const std::string& reason) { Shutdown(reason); }
};

class GroupObserver {
 public:
  virtual ~GroupObserver() = default;
  // A leader said hello. Answers with the group's handle and plan, or with the reason to turn the
  // group away (which is sent to the leader and ends its job).
  virtual absl::StatusOr<JoinedGroup> OnJoin(const v1::Hello& hello,
                                             std::shared_ptr<GroupTransport> transport) = 0;
  virtual void OnRankReport(GroupHandle group, const v1::RankReport& report) = 0;
  virtual void OnReady(GroupHandle group) = 0;
  virtual void OnStepResult(GroupHandle group, v1::StepResult result) = 0;
  // The stream ended: OK after a Shutdown, otherwise why (one clear line). Called once for each
  // group that was not turned away; nothing is called with its handle afterwards.
  virtual void OnLost(GroupHandle group, absl::Status why) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_GROUP_H_
