// The scheduler against a simulated group in virtual time: no clock, no threads, the same every
// time. Time passes only from event to event (an arrival, a result, a deadline), as the engine loop
// wakes up for them.
//
// Every answer is checked: its tokens have to be those of SimulatedModel. (Requests that keep
// tokens from being sampled, such as those with constraints, are not for this.)
//
//   Simulation simulation(limits, {.base = absl::Milliseconds(20)});
//   simulation.Submit(absl::ZeroDuration(), request);
//   ASSERT_TRUE(simulation.Run().ok());
//   simulation.answer(request.id).TimeToFirstToken();
#ifndef TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATION_H_
#define TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/simulate/simulated_pipeline.h"
#include "coordinator/simulate/simulated_worker.h"

namespace tessera::testing {

struct SimulatedAnswer {
  absl::Time arrived;
  absl::Status refused;                 // what Add said
  std::vector<absl::Time> token_times;  // of choice 0
  std::vector<int32_t> tokens;          // likewise
  coordinator::FinishCause finished = coordinator::FinishCause::kNone;
  absl::Time ended;

  bool answered() const {
    return finished == coordinator::FinishCause::kLength ||
           finished == coordinator::FinishCause::kStopToken;
  }
  absl::Duration TimeToFirstToken() const;   // InfiniteDuration without one
  std::vector<absl::Duration> Gaps() const;  // between tokens
};

class Simulation {
 public:
  Simulation(const coordinator::SchedulerLimits& limits, const SimulatedCost& cost);

  // Times count from the beginning.
  void At(absl::Duration when, std::function<void()> what);
  void Submit(absl::Duration when, coordinator::ScheduledRequest request);
  // `pause` after the last token of the request `before`, which need not be known yet.
  void SubmitAfter(int64_t before, absl::Duration pause, coordinator::ScheduledRequest request);
  void Cancel(absl::Duration when, int64_t request_id);
  absl::Duration now() const { return now_ - begin_; }

  // Until nothing happens any more. An error when a plan breaks the protocol, a result is refused,
  // a token is not the model's, or requests are left over with nothing under way (a deadlock).
  absl::Status Run() { return RunUntil(absl::InfiniteDuration()); }
  absl::Status RunUntil(absl::Duration end);

  const SimulatedAnswer& answer(int64_t request_id) const { return answers_.at(request_id); }
  const std::map<int64_t, SimulatedAnswer>& answers() const { return answers_; }
  coordinator::SchedulerStats stats() const { return scheduler_.stats(); }

  int64_t steps() const { return steps_; }  // committed
  absl::Duration computed() const { return computed_; }
  absl::Duration stalled() const { return stalled_; }

 private:
  struct Expected {
    uint64_t state = 0;  // of choice 0, after its last token
    v1::SamplingParams sampling;
  };

  void Add(coordinator::ScheduledRequest request);
  absl::Status SendPlans();
  absl::Status Commit(const v1::StepResult& result);
  absl::Status Record(const coordinator::Emission& emission);

  const absl::Time begin_ = absl::UnixEpoch();
  absl::Time now_ = begin_;
  SimulatedModel model_;
  coordinator::Scheduler scheduler_;
  SimulatedWorker worker_;
  SimulatedPipeline pipeline_;
  std::multimap<absl::Time, std::function<absl::Status()>> events_;
  std::map<int64_t, SimulatedAnswer> answers_;
  std::map<int64_t, Expected> expected_;
  std::multimap<int64_t, std::pair<absl::Duration, coordinator::ScheduledRequest>> after_;
  int64_t steps_ = 0;
  absl::Duration computed_;
  absl::Duration stalled_;
};

absl::Duration Median(std::vector<absl::Duration> values);  // of at least one

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATION_H_
