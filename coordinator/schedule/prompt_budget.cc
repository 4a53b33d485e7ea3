#include "coordinator/schedule/prompt_budget.h"

#include <algorithm>
#include <cmath>

#include "coordinator/schedule/pipeline_fill.h"
#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

int PromptTokensOfStep(const SchedulerLimits& limits, const StepCost& cost, int left) {
  if (limits.max_steps_in_flight == 1 || !cost.known()) return limits.max_tokens_per_step;
  return PromptTokensPerStep({.left = left,
                              .stages = limits.max_steps_in_flight,
                              .fewest = cost.WorthAStep(),
                              .most = limits.max_tokens_per_step});
}

double PromptMicrosOfStep(const StepCost& cost, const PromptSituation& situation) {
  if (situation.decodes > 0 || !cost.known()) {
    return cost.PrefillMicros(situation.decodes, situation.stretch);
  }
  const double piece =
      std::max(policy::kPromptPieceMicros, cost.PromptMicros(cost.WorthAStep(), 0));
  const bool done_soon =
      cost.PromptMicros(situation.tokens_left, 0) < policy::kFewestPromptPieces * piece;
  return done_soon || !situation.other_tenant_active ? HUGE_VAL : piece;
}

}  // namespace tessera::coordinator
