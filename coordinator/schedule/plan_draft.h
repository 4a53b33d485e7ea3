// The step that is being planned. Of the scheduler's own files only.
#ifndef TESSERA_COORDINATOR_SCHEDULE_PLAN_DRAFT_H_
#define TESSERA_COORDINATOR_SCHEDULE_PLAN_DRAFT_H_

#include <cmath>
#include <cstdint>
#include <memory>

#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/step.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct Scheduler::Draft {
  EarlierPlan earlier;  // with the plan to write
  std::unique_ptr<Step> step;
  absl::Time now;
  int budget = 0;                     // tokens left,
  int prompt_budget = 0;              // and of those, for prompts
  double prefill_micros = HUGE_VAL;   // left for prompts of tenants that are not owed any,
  int least_prefill = 0;              // and the tokens of those that go whatever they take
  bool ahead = false;       // sequences may be in an earlier step that is still in flight
  int64_t oldest_step = 0;  // in flight; 0: none
  double bearable_micros = -1;  // Scheduler::BearableMicros; negative: not computed yet
  bool starved = false;     // somebody found no block: admit nobody
  const Sequence* cut = nullptr;  // a prompt that got less than it could have used
  int charged_tenant = 0;   // computed for it here and not yet charged:
  int64_t charged_tokens = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PLAN_DRAFT_H_
