#include "worker/engine/row_changes.h"

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

void Forbid(const v1::DrawState& draw, int32_t first_id, absl::Span<float> logits) {
  const std::string& mask = draw.allowed_mask();
  const int32_t end = first_id + static_cast<int32_t>(logits.size());
  if (!mask.empty()) {
    for (int32_t id = first_id; id < end; ++id) {
      if (!MaskAllows(mask, id)) logits[id - first_id] = kForbidden;
    }
  }
  for (int32_t id : draw.banned_ids()) {
    if (id >= first_id && id < end) logits[id - first_id] = kForbidden;
  }
}

}  // namespace

bool HasPenalties(const v1::SamplingParams& params) {
  return RepetitionIsOn(params) || OutputPenaltyIsOn(params);
}

bool ChangesRow(const v1::SamplingParams& params, const v1::DrawState& draw) {
  const bool drawn_before = draw.output_ids_size() > 0;
  return params.bias_ids_size() > 0 || draw.banned_ids_size() > 0 || !draw.allowed_mask().empty() ||
         (OutputPenaltyIsOn(params) && drawn_before) ||
         (RepetitionIsOn(params) && (drawn_before || draw.prompt_ids_size() > 0));
}

RowChanger::Wish* RowChanger::WishOf(int32_t id) {
  if (id < first_id_ || id >= first_id_ + size_) return nullptr;
  int32_t& place = wish_index_[id - first_id_];
  if (place == 0) {
    wishes_.push_back({.index = id - first_id_});
    place = static_cast<int32_t>(wishes_.size());
  }
  return &wishes_[place - 1];
}

void RowChanger::Collect(const v1::SamplingParams& params, const v1::DrawState& draw) {
  if (RepetitionIsOn(params)) {
    for (int32_t id : draw.prompt_ids()) {
      if (Wish* wish = WishOf(id)) wish->named = true;
    }
  }
  if (HasPenalties(params)) {
    for (int32_t id : draw.output_ids()) {
      if (Wish* wish = WishOf(id)) {
        wish->named = true;
        ++wish->drawn;
      }
    }
  }
  for (int i = 0; i < params.bias_ids_size(); ++i) {
    if (Wish* wish = WishOf(params.bias_ids(i))) wish->bias = params.bias_values(i);
  }
}

void RowChanger::Change(const v1::SamplingParams& params, const v1::DrawState& draw,
                        int32_t first_id, absl::Span<float> logits) {
  first_id_ = first_id;
  size_ = static_cast<int32_t>(logits.size());
  if (wish_index_.size() < logits.size()) wish_index_.resize(logits.size(), 0);
  Collect(params, draw);
  const double repetition = params.repetition_penalty();
  for (const Wish& wish : wishes_) {
    double logit = logits[wish.index];
    if (wish.named && RepetitionIsOn(params)) {
      logit = logit > 0 ? logit / repetition : logit * repetition;
    }
    if (wish.drawn > 0) {
      logit -= wish.drawn * double{params.frequency_penalty()};
      logit -= params.presence_penalty();
    }
    logit += wish.bias;
    logits[wish.index] = static_cast<float>(std::clamp(logit, -kLargest, kLargest));
    wish_index_[wish.index] = 0;
  }
  wishes_.clear();
  Forbid(draw, first_id, logits);
}

}  // namespace tessera::worker
