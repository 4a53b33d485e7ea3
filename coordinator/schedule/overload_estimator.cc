#include "coordinator/schedule/overload_estimator.h"

#include <algorithm>
#include <cmath>

namespace tessera::coordinator {

// ---- what it learns from

void OverloadEstimator::ObserveStep(const StepShape& shape, double micros) {
  if (cost_->known()) step_latency_.Observe(cost_->PredictMicros(shape), micros);
}

void OverloadEstimator::ObserveStart(const RequestState& request, int cached) {
  const double alone = PromptMicros(request, cached);
  typical_prompt_micros_ +=
      (typical_prompt_micros_ > 0 ? policy::kPromptRate : 1) * (alone - typical_prompt_micros_);
}

void OverloadEstimator::ObserveOutput(int tokens, bool whole) {
  const double longer = tokens - typical_output_;
  if (whole || longer > 0) typical_output_ += policy::kOutputRate * longer;
}

void OverloadEstimator::AddBacklog(int tokens, int context) {
  backlog_.tokens += tokens;
  backlog_.micros += cost_->PromptMicros(tokens, context);
}

// ---- what it knows

int OverloadEstimator::SlotsBeside(const ServingLoad& load) const {
  return std::min(static_cast<int>(load.running.size()), slots_ - 1);
}

double OverloadEstimator::TypicalTokens(const RequestState& request) const {
  return std::min<double>(request.request.max_tokens, typical_output_);
}

double OverloadEstimator::PromptMicros(const RequestState& request, int cached) const {
  return cost_->PromptMicros(request.prompt_tokens - cached, cached);
}

double OverloadEstimator::TtftMicros(const RequestState& request, int cached,
                                     const ServingLoad& load) const {
  const int tokens = request.prompt_tokens - cached + backlog_.tokens;
  const int steps = (tokens + step_tokens_ - 1) / step_tokens_;
  const int decodes = SlotsBeside(load);
  const double prompts = PromptMicros(request, cached) + backlog_.micros;
  double beside = steps * cost_->PredictMicros({.decodes = decodes});
  if (decodes > 0 && stretch() > 1) beside = std::max(beside, prompts / (stretch() - 1));
  return prompts + beside;
}

double OverloadEstimator::ItlMicros(int sequences, const ServingLoad& load) const {
  if (overloaded_) return OverloadedItlMicros(sequences, 0);
  const double step = cost_->PredictMicros({.decodes = sequences});
  const bool stretched = load.waiting > 1 && prefill_stretch_ > 1;
  return step * (stretched ? prefill_stretch_ : 1);
}

// Over the tokens of its output each sequence adds a whole prompt to the steps, that of its
// successor; the newest its own where that takes longer than most.
double OverloadEstimator::OverloadedItlMicros(int sequences, double own_prompt) const {
  const double decodes = cost_->PredictMicros({.decodes = sequences});
  const double prompts =
      (sequences - 1) * typical_prompt_micros_ + std::max(own_prompt, typical_prompt_micros_);
  const double step = decodes + prompts / std::max(1.0, typical_output_);
  return stretch() > 1 ? std::min(step, stretch() * decodes) : step;
}

double OverloadEstimator::ItlBudgetMicros(const ServingLoad& load, absl::Time now) {
  const double least_step =
      cost_->PredictMicros({.decodes = static_cast<int>(load.running.size())});
  step_bounds_.clear();
  for (const Sequence* sequence : load.running) {
    const RequestState& request = *sequence->request;
    if (request.request.deadline == absl::InfiniteFuture()) continue;
    double left = absl::ToDoubleMicroseconds(request.request.deadline - now);
    if (!sequence->decoding()) left -= backlog_.micros;
    const double tokens = std::max(1.0, TypicalTokens(request) - std::max(0, sequence->emitted()));
    const double step = left / step_latency_.Micros(1, tokens, /*deviations=*/0);
    if (step >= least_step) step_bounds_.push_back(step);
  }
  if (step_bounds_.empty()) return HUGE_VAL;
  const auto least =
      step_bounds_.begin() +
      static_cast<std::ptrdiff_t>(policy::kGivenUp * static_cast<double>(step_bounds_.size()));
  std::nth_element(step_bounds_.begin(), least, step_bounds_.end());
  return *least;
}

// What a step takes by itself is shared by those in it: while that is a large part of it, one more
// is worth it.
bool OverloadEstimator::IsFullEnough(const ServingLoad& load) const {
  const int sequences = static_cast<int>(load.running.size());
  if (sequences * policy::kLeastSlotsPart < slots_) return false;
  return cost_->PredictMicros({}) < policy::kWorthSharing * OverloadedItlMicros(sequences, 0);
}

}  // namespace tessera::coordinator
