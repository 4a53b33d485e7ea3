// What a request takes beside those that run, in microseconds, as far as is known: time to first
// token (TTFT), inter-token latency (ITL), how long its output will be, and how much longer all of
// that takes than expected. Under overload (set from outside) steps bear more prompts, and whoever
// ends is followed by another.
//
// Learns from steps, starts and ends that it is told of; decides nothing. Pure, not thread-safe:
// the scheduler's. Knows nothing before `cost` does.
//
//   OverloadEstimator estimator(limits, &cost);
//   estimator.ObserveStep(shape, micros);
//   const ServingLoad load = {.running = table.running(), .waiting = table.waiting()};
//   double needed = estimator.TtftMicros(request, cached, load) +
//                   estimator.TypicalTokens(request) * estimator.ItlMicros(8, load);
#ifndef TESSERA_COORDINATOR_SCHEDULE_OVERLOAD_ESTIMATOR_H_
#define TESSERA_COORDINATOR_SCHEDULE_OVERLOAD_ESTIMATOR_H_

#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/schedule/latency_estimator.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/scheduling_policy.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step_cost.h"

namespace tessera::coordinator {

// Who shares the group at the moment.
struct ServingLoad {
  absl::Span<Sequence* const> running = {};
  size_t waiting = 0;  // sequences
};

class OverloadEstimator {
 public:
  OverloadEstimator(const SchedulerLimits& limits, const StepCost* cost)
      : slots_(limits.max_sequences_per_step),
        step_tokens_(limits.max_tokens_per_step),
        prefill_stretch_(limits.prefill_stretch),
        cost_(cost) {}

  // ---- What it learns from

  // A step of that shape took so long; before `cost` learns of it.
  void ObserveStep(const StepShape& shape, double micros);
  // A request starts, `cached` tokens of its prompt being in the cache.
  void ObserveStart(const RequestState& request, int cached);
  // A choice has ended after so many tokens. One that was cut short (not whole) says only that the
  // usual output may be longer.
  void ObserveOutput(int tokens, bool whole);
  // A choice took so long from its request's start, and was expected to.
  void ObserveLatency(double expected_micros, double took_micros) {
    request_latency_.Observe(expected_micros, took_micros);
  }
  // The rests of prompts under way after the step that is being built.
  void ClearBacklog() { backlog_ = {}; }
  void AddBacklog(int tokens, int context);

  void set_overloaded(bool overloaded) { overloaded_ = overloaded; }

  // ---- What it knows

  bool known() const { return cost_->known(); }
  bool overloaded() const { return overloaded_; }
  // How many times as long as its decodes alone a step with prompts may take.
  double stretch() const { return prefill_stretch_ * (overloaded_ ? policy::kOverloadStretch : 1); }
  // Tokens of the request's output, as far as outputs were alike.
  double TypicalTokens(const RequestState& request) const;
  // From the start of a request to its first token: behind the prompts under way, and beside
  // decodes that leave it a part of each step.
  double TtftMicros(const RequestState& request, int cached, const ServingLoad& load) const;
  // From token to token with so many sequences at once, and with prompts in between while others
  // wait.
  double ItlMicros(int sequences, const ServingLoad& load) const;
  // Likewise under overload; one of the sequences has a prompt that takes `own_prompt`
  // microseconds.
  double OverloadedItlMicros(int sequences, double own_prompt) const;
  // What a prompt takes alone, behind what is cached of it.
  double PromptMicros(const RequestState& request, int cached) const;
  // How long steps can be expected to take and nearly all that run still end in time: the ITL
  // budget. Infinite where none has to. Those that would be too late if nobody began any more do
  // not count.
  double ItlBudgetMicros(const ServingLoad& load, absl::Time now);
  // Whether more at once would hardly save the group any time: then everybody would have the less
  // to spare should the machine slow down.
  bool IsFullEnough(const ServingLoad& load) const;
  // What so many steps take that are expected to take `each`, nearly always.
  double StepsMicros(double each, double steps) const {
    return step_latency_.Micros(each, steps, policy::kStepDeviations);
  }
  const RequestLatencyEstimator& request_latency() const { return request_latency_; }
  // How many others will run beside one that starts now, or when it gets a slot.
  int SlotsBeside(const ServingLoad& load) const;
  int slots() const { return slots_; }

 private:
  struct Backlog {
    int tokens = 0;
    double micros = 0;
  };

  const int slots_;
  const int step_tokens_;
  const double prefill_stretch_;
  const StepCost* const cost_;
  RequestLatencyEstimator request_latency_;
  StepLatencyEstimator step_latency_;
  Backlog backlog_;
  bool overloaded_ = false;
  double typical_prompt_micros_ = 0;  // of steps, averaged over requests that started
  double typical_output_ = policy::kFirstOutputGuess;  // tokens, over choices that ended lately
  std::vector<double> step_bounds_;                    // scratch of ItlBudgetMicros
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_OVERLOAD_ESTIMATOR_H_
