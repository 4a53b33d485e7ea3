// A step in flight as the scheduler remembers it, and the one place that writes chunks of a plan.
// Plain data and a function on it.
//
//   Step step;
//   EarlierPlan earlier = {.plan = &plan, .step_id = plan.step_id()};  // chunks are written over
//   AppendChunk(limits, /*count=*/16, &sequence, &step, &earlier);
#ifndef TESSERA_COORDINATOR_SCHEDULE_STEP_H_
#define TESSERA_COORDINATOR_SCHEDULE_STEP_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/schedule/prefetch.h"
#include "coordinator/schedule/result_check.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step_cost.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct Step {
  int64_t id = 0;
  absl::Time sent_at;
  StepShape shape;
  std::vector<ExpectedChunk> expected;  // one per chunk
  std::vector<Sequence*> owners;        // of those; they outlive their end until the step is back

  // Keeps the memory for another step.
  void Clear() {
    shape = {};
    expected.clear();
    owners.clear();
  }
};

// A plan that is written over the one of an earlier step: where the chunks of sequences that go on
// are to be found in it. Those come in the same order; what stands between them has ended.
struct EarlierPlan {
  v1::StepPlan* plan = nullptr;
  int64_t step_id = 0;  // whose chunks it still has, beyond those written; 0: nobody knows
  int skipped = 0;      // chunks that nobody wanted so far
  int missed = 0;       // sequences whose chunk was looked for in vain
};

// Asks for the chunks that will be written after the one at `index`.
inline void PrefetchBehind(const EarlierPlan& earlier, int index) {
  const auto& chunks = earlier.plan->chunks();
  const int far = index + earlier.skipped + kPrefetchFar;
  const int near = index + earlier.skipped + kPrefetchNear;
  if (far < chunks.size()) Prefetch(chunks.Get(far));
  if (near < chunks.size()) __builtin_prefetch(chunks.Get(near).token_ids().data());
}

// Appends the next `count` tokens of `sequence` to what the step expects, writes them over the
// plan's chunk at that index, or appends one, and marks them as sent. Its block table holds the
// blocks for them.
void AppendChunk(const SchedulerLimits& limits, int count, Sequence* sequence, Step* step,
                 EarlierPlan* earlier);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_STEP_H_
