// When each step has this rank's device while steps are put there one behind the other: from when
// it is put on a device that has none, else from the end of the one before.
//
// Borrows the clock, which it tells of every turn. Threads: the engine thread.
//
//   DeviceTimeline timeline(clock);
//   timeline.Enqueued();  ...  timeline.Collected();
//   TESSERA_RETURN_IF_ERROR(timeline.CheckPatience(runner.oldest_step_id(), deadline));
#ifndef TESSERA_WORKER_ENGINE_DEVICE_TIMELINE_H_
#define TESSERA_WORKER_ENGINE_DEVICE_TIMELINE_H_

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "worker/engine/step_clock.h"

namespace tessera::worker {

class DeviceTimeline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit DeviceTimeline(StepClock& clock) : clock_(clock) {}

  // A step is about to be put on the device.
  void Enqueued() {
    if (waiting_++ == 0) Begin();
  }
  // The oldest one's result is there.
  void Collected() {
    clock_.EndStep();
    if (--waiting_ > 0) Begin();
  }

  // When the turn of the oldest step on the device began.
  Clock::time_point began() const { return began_; }
  // DEADLINE_EXCEEDED when that turn, of step `step_id`, is longer than it may be.
  absl::Status CheckPatience(int64_t step_id, absl::Duration deadline) const {
    if (absl::FromChrono(Clock::now() - began_) < deadline) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat("step ", step_id,
                                                    ": the device has sampled no token within ",
                                                    absl::FormatDuration(deadline)));
  }

 private:
  void Begin() {
    began_ = Clock::now();
    clock_.BeginStep(/*others_work=*/false);
  }

  StepClock& clock_;
  int waiting_ = 0;  // steps on the device
  Clock::time_point began_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_DEVICE_TIMELINE_H_
