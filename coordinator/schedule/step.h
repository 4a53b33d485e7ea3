// A step in flight as the scheduler remembers it, and one chunk of a plan. Plain data.
#ifndef TESSERA_COORDINATOR_SCHEDULE_STEP_H_
#define TESSERA_COORDINATOR_SCHEDULE_STEP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/schedule/result_check.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step_cost.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct Step {
  struct Owner {
    std::shared_ptr<LiveRequest> live;  // outlives its end until the step is back
    Sequence* sequence = nullptr;       // one of its choices
  };

  int64_t id = 0;
  absl::Time sent_at;
  StepShape shape;
  std::vector<ExpectedChunk> expected;  // one per chunk
  std::vector<Owner> owners;            // likewise

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

// Appends the next `count` tokens of `sequence` to what the step expects, writes them over the
// plan's chunk at that index, or appends one, and marks them as sent. Its block table holds the
// blocks for them.
void AppendChunk(const SchedulerLimits& limits, int count, Sequence* sequence, Step* step,
                 EarlierPlan* earlier);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_STEP_H_
