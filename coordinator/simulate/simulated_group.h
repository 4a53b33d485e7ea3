// A worker group in the coordinator's own process: joins a router through the transport seam,
// obeys its ShardPlan and answers its StepPlans on a thread of its own, after as long as the cost
// model says (or at once, with the default costs).
//
// Start, Lose and the destructor belong to one thread. The observer outlives the group.
//
//   auto router = Router::Create(options);
//   auto group = SimulatedGroup::Start(router.get(), {.cost = {.base = absl::Milliseconds(20)}});
#ifndef TESSERA_COORDINATOR_SIMULATE_SIMULATED_GROUP_H_
#define TESSERA_COORDINATOR_SIMULATE_SIMULATED_GROUP_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/group/group.h"
#include "tessera/v1/plan.pb.h"
#include "coordinator/simulate/simulated_model.h"
#include "coordinator/simulate/simulated_pipeline.h"

namespace tessera::testing {

struct SimulatedGroupOptions {
  v1::ModelDescription description = SimulatedDescription();
  SimulatedModel model = {};
  SimulatedCost cost = {};  // cost.stages: the plan's pipeline stages decide instead
  int world_size = 1;
  bool thorough = true;  // SimulatedWorkerOptions
};

class SimulatedGroup {
 public:
  // Joins and is ready at once. The observer's reason when it turns the group away.
  static absl::StatusOr<std::unique_ptr<SimulatedGroup>> Start(
      coordinator::GroupObserver* observer, const SimulatedGroupOptions& options);

  virtual ~SimulatedGroup() = default;  // as Lose, unless the group is gone already

  // The stream breaks: steps under way are never answered.
  virtual void Lose(absl::Status why) = 0;

  // While held it answers nothing: so that many requests can wait for the same first step. From any
  // thread.
  virtual void SetHeld(bool held) = 0;

  virtual int64_t steps() const = 0;  // answered
};

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_SIMULATED_GROUP_H_
