// What the group answers: doubted first, then taken over.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/deadline_admission.h"
#include "coordinator/schedule/kv_cache_manager.h"
#include "coordinator/schedule/logits_state.h"
#include "coordinator/schedule/overload_estimator.h"
#include "coordinator/schedule/preemption_policy.h"
#include "coordinator/schedule/result_check.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step.h"
#include "coordinator/schedule/step_cost.h"
#include "coordinator/schedule/step_times.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {

absl::StatusOr<std::vector<Emission>> Scheduler::Commit(const v1::StepResult& result) {
  std::vector<Emission> emissions;
  TESSERA_RETURN_IF_ERROR(Commit(result, &emissions));
  return emissions;
}

absl::Status Scheduler::Commit(const v1::StepResult& result, std::vector<Emission>* emissions) {
  const auto found = std::find_if(in_flight_.begin(), in_flight_.end(),
                                  [&](const auto& step) { return step->id == result.step_id(); });
  if (found == in_flight_.end()) {
    return absl::InternalError(
        absl::StrCat("result of step ", result.step_id(), ", which is not in flight"));
  }
  TESSERA_RETURN_IF_ERROR(CheckResult(**found, result));
  std::unique_ptr<Step> step = std::move(*found);
  in_flight_.erase(found);
  LearnStep(*step, result.compute_micros());
  emissions->clear();
  emissions->reserve(static_cast<size_t>(result.tokens_size()));
  int token = 0;
  int prompt_logprobs = 0;
  for (size_t i = 0; i < step->expected.size(); ++i) {
    if (i + kPrefetchFar < step->owners.size()) Prefetch(*step->owners[i + kPrefetchFar]);
    if (i + kPrefetchNear < step->owners.size()) PrefetchTail(*step->owners[i + kPrefetchNear]);
    if (token + kPrefetchFar < result.tokens_size()) Prefetch(result.tokens(token + kPrefetchFar));
    const ExpectedChunk& chunk = step->expected[i];
    CommitChunk(
        *step, i, chunk.samples ? &result.tokens(token++) : nullptr,
        chunk.prompt_logprob_ids.empty() ? nullptr : &result.prompt_logprobs(prompt_logprobs++),
        emissions);
    totals_.tokens_computed += chunk.tokens;
  }
  cache_->Commit(filled_);  // together, for their blocks are all over the pool
  filled_.clear();
  ++totals_.steps;
  totals_.compute_micros += std::max<int64_t>(0, result.compute_micros());
  totals_.stall_micros += std::max<int64_t>(0, result.stall_micros());
  step->Clear();
  spare_steps_.push_back(std::move(step));
  ForgetFinished();
  return absl::OkStatus();
}

absl::Status Scheduler::CheckResult(const Step& step, const v1::StepResult& result) const {
  TESSERA_RETURN_IF_ERROR(CheckStepResult(step.id, step.expected, result, limits_.vocab_size));
  int sampled = 0;
  for (size_t i = 0; i < step.expected.size(); ++i) {
    if (i + kPrefetchFar < step.owners.size()) Prefetch(*step.owners[i + kPrefetchFar]);
    const ExpectedChunk& chunk = step.expected[i];
    Sequence& sequence = *step.owners[i];
    const int next_token = sampled;
    sampled += chunk.samples;
    if (sequence.state == Sequence::State::kOver) continue;
    if (chunk.start_position != sequence.computed) {
      return absl::InternalError(absl::StrCat("result of step ", step.id, ", sequence ",
                                              sequence.id, ": an earlier step's is still missing"));
    }
    if (chunk.samples && !MayFollow(sequence, result.tokens(next_token).token_id())) {
      return absl::InternalError(absl::StrCat(
          "result of step ", step.id, ", sequence ", sequence.id, ": token ",
          result.tokens(next_token).token_id(), "; expected one that the mask allows"));
    }
  }
  return absl::OkStatus();
}

void Scheduler::LearnStep(const Step& step, int64_t compute_micros) {
  if (compute_micros <= 0) return;
  const int64_t micros = step_times_->OwnMicros(step.sent_at, absl::Microseconds(compute_micros));
  estimator_->ObserveStep(step.shape, static_cast<double>(micros));
  cost_->Observe(step.shape, micros);
}

void Scheduler::CommitChunk(const Step& step, size_t index, const v1::SampledToken* token,
                            const v1::ChunkPromptLogprobs* prompt_logprobs,
                            std::vector<Emission>* emissions) {
  Sequence* sequence = step.owners[index];
  RequestState* request = sequence->request;
  --sequence->in_flight;
  if (sequence->state == Sequence::State::kOver) {
    if (sequence->in_flight > 0) return;
    cache_->Release(sequence);
    --request->lingering;
    return;
  }
  const int before = sequence->computed;
  sequence->computed += step.expected[index].tokens;
  const int filled = sequence->computed / limits_.block_tokens - before / limits_.block_tokens;
  const bool has_prompt = sequence->computed >= sequence->prompt_tokens;
  if (has_prompt && before < sequence->prompt_tokens && !request->prompt_known) {
    EnqueueHeld(request);
  }

  const bool scored = has_prompt && sequence->max_tokens == 0;
  if (token != nullptr || prompt_logprobs != nullptr || scored) {
    Emission& emission = emissions->emplace_back();
    emission.request_id = sequence->request_id;
    emission.choice = sequence->choice;
    if (prompt_logprobs != nullptr) {
      emission.prompt_logprobs.assign(prompt_logprobs->prompt_logprobs().begin(),
                                      prompt_logprobs->prompt_logprobs().end());
      request->prompt_logprobs_next += prompt_logprobs->prompt_logprobs_size();
    }
    if (scored) emission.finished = FinishCause::kLength;
    if (token != nullptr) Append(sequence, *token, &emission);
    if (emission.finished != FinishCause::kNone) {
      admission_->Ended(*sequence);
      if (filled > 0) cache_->Commit(*sequence);
      return FinishSequence(sequence);
    }
  }
  if (sequence->victim && sequence->in_flight == 0) {
    if (filled > 0) cache_->Commit(*sequence);
    preemption_->Preempt(sequence);
  } else if (filled > 0) {
    filled_.push_back(sequence);
    __builtin_prefetch(&sequence->blocks.back());
  }
}

void Scheduler::Append(Sequence* sequence, const v1::SampledToken& token, Emission* emission) {
  emission->token = &token;
  if (sequence->emitted() == 0) emission->cached_tokens = sequence->request->cached_tokens;
  if (--sequence->pending_samples == 0) sequence->sampling_step = 0;
  sequence->tokens.push_back(token.token_id());
  sequence->request->proven = true;
  if (sequence->request->suspect) Acquit(sequence->request);
  cache_->Reserve(sequence);
  if (!sequence->stateless_sampling && sequence->constraint != nullptr &&
      !sequence->constraint->Accept(token.token_id())) {
    std::fprintf(stderr, "TokenConstraint refused token %d, which its mask allowed\n",
                 token.token_id());
    std::abort();
  }
  if (sequence->has_stop_ids) {
    const auto& stop_ids = sequence->request->request.stop_ids;
    if (std::find(stop_ids.begin(), stop_ids.end(), token.token_id()) != stop_ids.end()) {
      emission->finished = FinishCause::kStopToken;
      return;
    }
  }
  if (sequence->emitted() >= sequence->max_tokens || sequence->known() >= max_len_) {
    emission->finished = FinishCause::kLength;
  }
}

}  // namespace tessera::coordinator
