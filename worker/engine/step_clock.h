// Where a rank's time goes: computing, waiting for other ranks, moving bytes, or none of the group's
// steps being here. Sums since the start; whoever computes most and waits least is the slow rank.
// And how long the others of the stage have waited for this rank alone: of a rank that something
// else keeps from running that tells more, for it may be kept wherever it is, when it waits too.
//
//   within a step    what the communicator of the stage says (timed_communicator.h); the rest is
//                    computing
//   between steps    waiting, when the step comes from the stage before (or the leader waits for
//                    the last one) and came soon; else idle: nobody knows whether there is a step
//
// On a device whose ranks talk to each other directly, their waiting counts as computing.
//
// Threads: the engine thread writes; Read may be called from any thread.
//
//   clock.BeginStep(/*others_work=*/true);
//   ...
//   clock.EndStep();
#ifndef TESSERA_WORKER_ENGINE_STEP_CLOCK_H_
#define TESSERA_WORKER_ENGINE_STEP_CLOCK_H_

#include <atomic>
#include <chrono>
#include <cstdint>

#include "tessera/v1/plan.pb.h"
#include "worker/comm/timed_communicator.h"

namespace tessera::worker {

class StepClock {
 public:
  // The times of the stage's tensor-parallel communicator.
  CommTimes* comm() { return &comm_; }

  // others_work: other ranks may have been at work on steps since this rank's last one ended.
  void BeginStep(bool others_work) {
    const Clock::time_point now = Clock::now();
    const std::chrono::nanoseconds between = now - ended_;
    (others_work && between < kSoon ? between_waiting_ns_ : idle_ns_) += between.count();
    began_ = now;
    in_comm_at_begin_ = InComm();
  }

  void EndStep() {
    ended_ = Clock::now();
    const std::chrono::nanoseconds took = ended_ - began_;
    computing_ns_ += took.count() - (InComm() - in_comm_at_begin_);
    ++steps_;
  }

  // Handing activations to the next stage: neither computing nor waiting. Within a step.
  template <typename Function>
  auto Moving(Function function) {
    const Clock::time_point began = Clock::now();
    auto result = function();
    comm_.moving_ns += std::chrono::nanoseconds(Clock::now() - began).count();
    return result;
  }

  v1::StepTimes Read() const {
    v1::StepTimes times;
    times.set_steps(steps_);
    times.set_computing_micros(computing_ns_ / 1000);
    times.set_waiting_micros((between_waiting_ns_ + comm_.waiting_ns) / 1000);
    times.set_transferring_micros(comm_.moving_ns / 1000);
    times.set_idle_micros(idle_ns_ / 1000);
    times.set_late_micros(comm_.late_ns / 1000);
    return times;
  }

 private:
  using Clock = std::chrono::steady_clock;
  // A step that is later than this came to an idle group.
  static constexpr std::chrono::seconds kSoon{1};

  int64_t InComm() const { return comm_.waiting_ns + comm_.moving_ns; }

  CommTimes comm_;
  std::atomic<int64_t> computing_ns_{0};
  std::atomic<int64_t> between_waiting_ns_{0};
  std::atomic<int64_t> idle_ns_{0};
  std::atomic<int64_t> steps_{0};
  Clock::time_point began_;
  Clock::time_point ended_ = Clock::now();
  int64_t in_comm_at_begin_ = 0;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_CLOCK_H_
