// How much of prompts one step takes, beside its decodes or without any. Pure functions over what
// steps cost.
//
//   PromptTokensOfStep(limits, cost, left);           // with several stages: keeps all of them
//   busy PromptMicrosOfStep(cost, {.decodes = 8, .stretch = 2.0});   // what the 8 streams bear
#ifndef TESSERA_COORDINATOR_SCHEDULE_PROMPT_BUDGET_H_
#define TESSERA_COORDINATOR_SCHEDULE_PROMPT_BUDGET_H_

#include <cstdint>

#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/step_cost.h"

namespace tessera::coordinator {

// Prompt tokens, while `left` of them are to be computed as far as is known. What prompts cost
// beside a step must be known before they are spread over stages: small steps may be dear.
int PromptTokensOfStep(const SchedulerLimits& limits, const StepCost& cost, int left);

struct PromptSituation {
  int decodes = 0;                   // in the step
  double stretch = 0;                // how many times as long as without prompts it may take
  int tokens_left = 0;               // of prompts, as far as is known
  bool other_tenant_active = false;  // than the one whose prompts those are
};

// Microseconds that prompts of tenants which are not in deficit may add. Without decodes they keep
// only those waiting who come while they are computed: where somebody may, they get on in pieces,
// unless they are done soon anyway. Infinite: no bound.
double PromptMicrosOfStep(const StepCost& cost, const PromptSituation& situation);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PROMPT_BUDGET_H_
