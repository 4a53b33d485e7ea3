#include "worker/engine/recent_steps.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "worker/engine/logits_processors.h"

namespace tessera::worker {

const RecentSteps::Step* RecentSteps::Find(int64_t step_id) const {
  const auto found = std::find_if(steps_.rbegin(), steps_.rend(),
                                  [=](const Step& step) { return step.step_id == step_id; });
  return found == steps_.rend() ? nullptr : &*found;
}

RecentSteps::Lookup RecentSteps::TokenOf(int64_t sequence_id, int64_t step_id) const {
  const Step* step = Find(step_id);
  if (step == nullptr) return {};
  const auto found = step->sample_of.find(sequence_id);
  if (found == step->sample_of.end()) return {};
  if (!step->done)
    return {.known = true, .sampled = false, .token = PlaceholderToken(found->second)};
  return {.known = true, .sampled = true, .token = step->tokens[found->second]};
}

absl::StatusOr<bool> RecentSteps::IsReady(const v1::SequenceChunk& chunk,
                                          int64_t pending_step) const {
  const int tokens = chunk.token_ids_size();
  if (chunk.last_token_from_step() < 0 || tokens == 0 || chunk.token_ids(tokens - 1) != -1) {
    return absl::InvalidArgumentError(
        absl::StrCat("last_token_from_step ", chunk.last_token_from_step(),
                     ": expected 0, or a step's id and -1 as the last of ", tokens, " token_ids"));
  }
  const Lookup lookup = TokenOf(chunk.sequence_id(), chunk.last_token_from_step());
  if (!lookup.known) {
    return absl::InvalidArgumentError(
        absl::StrCat("last_token_from_step: expected a recent step that samples for this sequence, "
                     "got ",
                     chunk.last_token_from_step()));
  }
  return lookup.sampled || chunk.last_token_from_step() == pending_step;
}

absl::StatusOr<bool> RecentSteps::FillIn(v1::StepPlan& plan) const {
  return FillIn(plan, /*pending_step=*/0);
}

absl::StatusOr<bool> RecentSteps::FillInWithPlaceholders(v1::StepPlan& plan) const {
  return FillIn(plan, pending_tokens().step_id);
}

PendingTokens RecentSteps::pending_tokens() const {
  if (steps_.empty() || steps_.back().done) return {};
  return {.step_id = steps_.back().step_id, .count = steps_.back().sampling.size()};
}

absl::StatusOr<bool> RecentSteps::FillIn(v1::StepPlan& plan, int64_t pending_step) const {
  bool ready = true;
  for (int i = 0; i < plan.chunks_size(); ++i) {
    const v1::SequenceChunk& chunk = plan.chunks(i);
    if (chunk.last_token_from_step() == 0) continue;
    const absl::StatusOr<bool> chunk_ready = IsReady(chunk, pending_step);
    if (!chunk_ready.ok()) {
      return Annotate(chunk_ready.status(),
                            absl::StrCat("step ", plan.step_id(), ", chunk ", i, " (sequence ",
                                         chunk.sequence_id(), ")"));
    }
    ready = ready && *chunk_ready;
  }
  if (!ready) return false;
  for (v1::SequenceChunk& chunk : *plan.mutable_chunks()) {
    if (chunk.last_token_from_step() == 0) continue;
    const Lookup lookup = TokenOf(chunk.sequence_id(), chunk.last_token_from_step());
    chunk.set_token_ids(chunk.token_ids_size() - 1, lookup.token);
    if (!lookup.sampled) continue;
    if (HasPenalties(chunk.sampling())) chunk.mutable_logits_state()->add_output_ids(lookup.token);
    chunk.clear_last_token_from_step();
  }
  return true;
}

void RecentSteps::Begin(const v1::StepPlan& plan) {
  Step step;
  step.step_id = plan.step_id();
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    step.sequences.insert(chunk.sequence_id());
    if (!chunk.has_sampling()) continue;
    step.sample_of.emplace(chunk.sequence_id(), step.sampling.size());
    step.sampling.push_back(chunk.sequence_id());
  }
  steps_.push_back(std::move(step));
  if (steps_.size() > kept_) steps_.pop_front();
}

absl::Status RecentSteps::End(const v1::StepResult& result) {
  // The oldest that is not done: results come in the order of the plans.
  const auto step =
      std::find_if(steps_.begin(), steps_.end(), [](const Step& s) { return !s.done; });
  if (step == steps_.end() || step->step_id != result.step_id()) {
    return absl::InternalError(absl::StrCat(
        "the last stage answered step ", result.step_id(), "; expected ",
        step == steps_.end() ? "none" : absl::StrCat("step ", step->step_id)));
  }
  for (const v1::SampledToken& token : result.tokens()) {
    const size_t at = step->tokens.size();
    if (at >= step->sampling.size() || token.sequence_id() != step->sampling[at]) break;
    step->tokens.push_back(token.token_id());
  }
  const size_t expected = step->sampling.size();
  if (step->tokens.size() != expected || static_cast<size_t>(result.tokens_size()) != expected) {
    return absl::InternalError(absl::StrCat("step ", result.step_id(), ": expected ", expected,
                                            " tokens in the plan's order, got ",
                                            result.tokens_size()));
  }
  step->done = true;
  return absl::OkStatus();
}

bool RecentSteps::Continues(const v1::StepPlan& plan) const {
  return std::any_of(plan.chunks().begin(), plan.chunks().end(), [&](const auto& chunk) {
    return std::any_of(steps_.begin(), steps_.end(), [&](const Step& step) {
      return step.sequences.count(chunk.sequence_id()) > 0;
    });
  });
}

}  // namespace tessera::worker
