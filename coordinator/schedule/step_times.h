// How long a step takes by itself, from what the leader reports of it.
//
// The leader's time counts from the start of the step's work, which is when it has the plan and
// room: of one stage per step, the step so many before has ended. (Async scheduling continues from
// that one too.) In a pipeline that time overlaps with the steps before, so a step's own is what
// lies between the later of its start and the end of the step before, and its own end. All plans
// take about as long to get there: their sending stands for their arrival.
//
// Pure, not thread-safe.
//
//   StepTimes times(/*stages=*/2);
//   cost.Observe(shape, times.OwnMicros(step.sent_at,
//   absl::Microseconds(result.compute_micros())));
#ifndef TESSERA_COORDINATOR_SCHEDULE_STEP_TIMES_H_
#define TESSERA_COORDINATOR_SCHEDULE_STEP_TIMES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/time/time.h"

namespace tessera::coordinator {

class StepTimes {
 public:
  explicit StepTimes(int stages) : stages_(static_cast<size_t>(stages)) {}

  // In the order of the steps' results.
  int64_t OwnMicros(absl::Time sent_at, absl::Duration compute) {
    const bool had_room = ended_.size() < stages_;
    const absl::Time began = had_room ? sent_at : std::max(sent_at, ended_.front());
    const absl::Time last_end = ended_.empty() ? absl::InfinitePast() : ended_.back();
    const absl::Time end = began + compute;
    const absl::Duration own = end - std::max(began, last_end);
    if (!had_room) ended_.pop_front();
    ended_.push_back(std::max(end, last_end));
    return absl::ToInt64Microseconds(own);
  }

 private:
  const size_t stages_;
  std::deque<absl::Time> ended_;  // the last steps, one per stage, by estimate
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_STEP_TIMES_H_
