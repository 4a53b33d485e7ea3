#include "benchmarks/serving/scale_steps.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "benchmarks/serving/scale_meters.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/simulate/simulated_worker.h"

namespace tessera::benchmarks {
namespace {

using coordinator::FinishCause;
using coordinator::ScheduledRequest;
using coordinator::Scheduler;
using coordinator::SchedulerLimits;

constexpr int kLongestContext = 2048;

void OrDie(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

SchedulerLimits LimitsFor(const StepsOptions& options) {
  SchedulerLimits limits;
  limits.num_blocks = options.sequences * kLongestContext / limits.block_tokens;
  limits.max_sequences_per_step = options.sequences;
  // Prompts are computed as fast as answers end: what is measured is the scheduler, not the group.
  limits.max_tokens_per_step = 16 * options.sequences;
  limits.prefill_stretch = 0;
  limits.max_queue = options.sequences;
  limits.max_model_len = kLongestContext;
  limits.vocab_size = testing::SimulatedModel{}.vocab_size;
  return limits;
}

// Drives the scheduler as the engine loop does, one step ahead, and adds up what that costs.
class StepMeter {
 public:
  explicit StepMeter(const StepsOptions& options)
      : options_(options),
        limits_(LimitsFor(options)),
        scheduler_(limits_),
        worker_({.num_blocks = limits_.num_blocks,
                 .block_tokens = limits_.block_tokens,
                 .thorough = false}) {}

  StepCpu Run() {
    for (int i = 0; i < options_.sequences; ++i) AddRequest();
    // Until all first prompts are computed and, with churn, the ends are spread evenly.
    for (int step = 0; step < 320; ++step) Step();
    costs_.clear();
    serialize_ = 0;
    for (int step = 0; step < options_.steps; ++step) Step();
    return Summary();
  }

 private:
  void AddRequest() {
    ScheduledRequest request;
    request.id = next_id_++;
    const unsigned prompt = 64 + random_() % 897;
    for (unsigned i = 0; i < prompt; ++i) {
      request.prompt_ids.push_back(static_cast<int32_t>(random_() % 256));
    }
    request.max_tokens = options_.churn ? 100 + static_cast<int>(random_() % 201) : kLongestContext;
    OrDie(scheduler_.Add(std::move(request), now_));
  }

  // Plans what can be planned, and commits one step.
  void Step() {
    double began = 0;
    double cost = 0;
    while (true) {
      began = ThreadCpuSeconds();
      const bool planned = scheduler_.Schedule(now_, &plan_);
      cost += ThreadCpuSeconds() - began;
      if (!planned) break;
      Execute(plan_);
    }
    const v1::StepResult result = std::move(results_.front());
    results_.pop_front();
    began = ThreadCpuSeconds();
    const absl::Status committed = scheduler_.Commit(result, &emissions_);
    cost += ThreadCpuSeconds() - began;
    OrDie(committed);
    for (const coordinator::Emission& emission : emissions_) {
      if (emission.finished != FinishCause::kNone) AddRequest();
    }
    costs_.push_back(cost * 1e6);
  }

  void Execute(const v1::StepPlan& plan) {
    context_ = 0;
    for (const v1::SequenceChunk& chunk : plan.chunks()) context_ += chunk.start_position();
    context_ /= plan.chunks_size();
    absl::StatusOr<v1::StepResult> result = worker_.Execute(plan);
    OrDie(result.status());
    results_.push_back(*std::move(result));
    const double began = ThreadCpuSeconds();
    serialized_.clear();
    if (!plan.SerializeToString(&serialized_)) std::abort();
    serialize_ += ThreadCpuSeconds() - began;
  }

  StepCpu Summary() {
    StepCpu cpu;
    for (const double cost : costs_) cpu.mean += cost / static_cast<double>(costs_.size());
    std::sort(costs_.begin(), costs_.end());
    cpu.p99 = costs_[costs_.size() * 99 / 100];
    cpu.serialize = serialize_ * 1e6 / static_cast<double>(costs_.size());
    cpu.context = context_;
    return cpu;
  }

  const StepsOptions options_;
  const SchedulerLimits limits_;
  Scheduler scheduler_;
  testing::SimulatedWorker worker_;
  std::mt19937 random_{1};
  absl::Time now_ = absl::UnixEpoch();
  int64_t next_id_ = 1;
  std::deque<v1::StepResult> results_;  // of the steps in flight
  v1::StepPlan plan_;
  std::vector<coordinator::Emission> emissions_;
  std::string serialized_;
  std::vector<double> costs_;  // of each step, microseconds
  double serialize_ = 0;       // of all steps, seconds
  double context_ = 0;
};

}  // namespace

StepCpu MeasureSteps(const StepsOptions& options) { return StepMeter(options).Run(); }

}  // namespace tessera::benchmarks
