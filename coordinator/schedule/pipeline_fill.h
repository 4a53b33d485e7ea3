// How many prompt tokens a step takes where steps pass through several stages: few enough that
// every stage has one for most of the time. Prompts in n steps occupy p stages for n + p - 1 turns.
//
//   PromptTokensPerStep({.left = 1024, .stages = 2, .most = 512})   // 128: eight steps, nine turns
#ifndef TESSERA_COORDINATOR_SCHEDULE_PIPELINE_FILL_H_
#define TESSERA_COORDINATOR_SCHEDULE_PIPELINE_FILL_H_

#include <algorithm>
#include <cstdint>

#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

struct PromptWork {
  int64_t left = 0;  // prompt tokens to be computed, as far as is known
  int stages = 1;
  int fewest = 0;  // below it a step of them costs more than what filling the stages gains
  int most = 512;
};

inline int PromptTokensPerStep(const PromptWork& work) {
  if (work.stages == 1) return work.most;
  const int64_t steps = int64_t{policy::kPromptStepsPerStage} * work.stages;
  const int64_t share = (work.left + steps - 1) / steps;
  const int64_t tokens = std::max<int64_t>({share, work.fewest, policy::kFewestTokensToCut});
  return static_cast<int>(std::min<int64_t>(tokens, work.most));
}

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PIPELINE_FILL_H_
