#include "coordinator/simulate/simulated_pipeline.h"

#include <algorithm>
#include <cstddef>

namespace tessera::testing {
namespace {

constexpr size_t kRememberedSteps = 16;
constexpr absl::Duration kLongestStall = absl::Seconds(1);

}  // namespace

absl::Duration StepDuration(const SimulatedCost& cost, const v1::StepPlan& plan) {
  absl::Duration duration = cost.base;
  bool has_prompt = false;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    const bool decode = chunk.token_ids_size() == 1 && chunk.has_sampling();
    if (decode) {
      duration += cost.per_decode;
      continue;
    }
    has_prompt = true;
    const int64_t tokens = chunk.token_ids_size();
    const int64_t attended = tokens * chunk.start_position() + tokens * (tokens + 1) / 2;
    duration += tokens * cost.per_prefill + attended * cost.per_attended;
  }
  return has_prompt ? duration + cost.per_chunk : duration;
}

SimulatedPipeline::SimulatedPipeline(const SimulatedCost& cost)
    : cost_(cost), stage_free_(static_cast<size_t>(cost.stages), absl::InfinitePast()) {}

SimulatedPipeline::Times SimulatedPipeline::Accept(const v1::StepPlan& plan, absl::Time sent) {
  const absl::Time received = sent + cost_.one_way;
  // With as many steps under way as there are stages, the oldest has to end first.
  const size_t stages = stage_free_.size();
  absl::Time room = stage_free_[0];
  if (recent_.size() >= stages) room = std::max(room, recent_[stages - 1].ended);
  absl::Time ready = std::max(received, room);
  Step step{plan.step_id(), {}, {}};
  bool continues = false;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    step.sequences.insert(chunk.sequence_id());
    for (const Step& earlier : recent_) {
      continues = continues || earlier.sequences.count(chunk.sequence_id()) > 0;
      if (earlier.id == chunk.last_token_from_step()) ready = std::max(ready, earlier.ended);
    }
  }

  Times times;
  times.began = ready;
  absl::Duration share = StepDuration(cost_, plan) / cost_.stages;
  if (cost_.outlier > 0 && random_() % 10 == 0) share *= cost_.outlier;
  if (cost_.slow_stretch > absl::ZeroDuration()) {
    const double stretches = absl::FDivDuration(ready - absl::UnixEpoch(), cost_.slow_stretch);
    if (static_cast<int64_t>(stretches) % 2 == 1) share *= cost_.slowdown;
  }
  for (absl::Time& free : stage_free_) {
    ready = std::max(ready, free) + share;
    free = ready;
  }
  times.ended = ready;
  times.arrived = times.ended + cost_.one_way;
  const bool idle = !continues && (recent_.empty() || recent_[0].ended <= received);
  const absl::Duration looked = received - room;
  times.stall = idle || looked < absl::ZeroDuration() || looked > kLongestStall
                    ? absl::ZeroDuration()
                    : looked;
  step.ended = times.ended;
  recent_.push_front(std::move(step));
  if (recent_.size() > std::max(kRememberedSteps, 2 * stages)) recent_.pop_back();
  return times;
}

}  // namespace tessera::testing
