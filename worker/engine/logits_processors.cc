#include "worker/engine/logits_processors.h"

#include <algorithm>
#include <limits>

namespace tessera::worker {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr double kLargest = std::numeric_limits<float>::max();

bool RepetitionIsOn(const v1::SamplingParams& params) {
  return params.repetition_penalty() != 0 && params.repetition_penalty() != 1;
}

bool OutputPenaltyIsOn(const v1::SamplingParams& params) {
  return params.presence_penalty() != 0 || params.frequency_penalty() != 0;
}

void Forbid(const v1::LogitsState& state, int32_t first_id, absl::Span<float> logits) {
  const std::string& mask = state.allowed_mask();
  const int32_t end = first_id + static_cast<int32_t>(logits.size());
  if (!mask.empty()) {
    for (int32_t id = first_id; id < end; ++id) {
      if (!MaskAllows(mask, id)) logits[id - first_id] = kForbidden;
    }
  }
  for (int32_t id : state.banned_ids()) {
    if (id >= first_id && id < end) logits[id - first_id] = kForbidden;
  }
}

}  // namespace

bool HasPenalties(const v1::SamplingParams& params) {
  return RepetitionIsOn(params) || OutputPenaltyIsOn(params);
}

bool ProcessesLogits(const v1::SamplingParams& params, const v1::LogitsState& state) {
  const bool sampled_before = state.output_ids_size() > 0;
  return params.bias_ids_size() > 0 || state.banned_ids_size() > 0 ||
         !state.allowed_mask().empty() || (OutputPenaltyIsOn(params) && sampled_before) ||
         (RepetitionIsOn(params) && (sampled_before || state.prompt_ids_size() > 0));
}

LogitsProcessors::Adjustment* LogitsProcessors::AdjustmentOf(int32_t id) {
  if (id < first_id_ || id >= first_id_ + size_) return nullptr;
  int32_t& place = adjustment_index_[id - first_id_];
  if (place == 0) {
    adjustments_.push_back({.index = id - first_id_});
    place = static_cast<int32_t>(adjustments_.size());
  }
  return &adjustments_[place - 1];
}

void LogitsProcessors::Collect(const v1::SamplingParams& params, const v1::LogitsState& state) {
  if (RepetitionIsOn(params)) {
    for (int32_t id : state.prompt_ids()) {
      if (Adjustment* adjustment = AdjustmentOf(id)) adjustment->named = true;
    }
  }
  if (HasPenalties(params)) {
    for (int32_t id : state.output_ids()) {
      if (Adjustment* adjustment = AdjustmentOf(id)) {
        adjustment->named = true;
        ++adjustment->sampled;
      }
    }
  }
  for (int i = 0; i < params.bias_ids_size(); ++i) {
    if (Adjustment* adjustment = AdjustmentOf(params.bias_ids(i)))
      adjustment->bias = params.bias_values(i);
  }
}

void LogitsProcessors::Apply(const v1::SamplingParams& params, const v1::LogitsState& state,
                             int32_t first_id, absl::Span<float> logits) {
  first_id_ = first_id;
  size_ = static_cast<int32_t>(logits.size());
  if (adjustment_index_.size() < logits.size()) adjustment_index_.resize(logits.size(), 0);
  Collect(params, state);
  const double repetition = params.repetition_penalty();
  for (const Adjustment& adjustment : adjustments_) {
    double logit = logits[adjustment.index];
    if (adjustment.named && RepetitionIsOn(params)) {
      logit = logit > 0 ? logit / repetition : logit * repetition;
    }
    if (adjustment.sampled > 0) {
      logit -= adjustment.sampled * double{params.frequency_penalty()};
      logit -= params.presence_penalty();
    }
    logit += adjustment.bias;
    logits[adjustment.index] = static_cast<float>(std::clamp(logit, -kLargest, kLargest));
    adjustment_index_[adjustment.index] = 0;
  }
  adjustments_.clear();
  Forbid(state, first_id, logits);
}

}  // namespace tessera::worker
