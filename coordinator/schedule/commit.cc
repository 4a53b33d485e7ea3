// What the group answers: doubted first, then taken over.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/draw_state.h"
#include "coordinator/schedule/result_check.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr double kLearningRate = 0.05;  // of the typical output's length

}  // namespace

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
  Learn(*step, result.compute_micros());
  emissions->clear();
  emissions->reserve(static_cast<size_t>(result.tokens_size()));
  int token = 0;
  int targets = 0;
  for (size_t i = 0; i < step->expected.size(); ++i) {
    if (i + kPrefetchFar < step->owners.size()) Prefetch(*step->owners[i + kPrefetchFar]);
    if (i + kPrefetchNear < step->owners.size()) PrefetchTail(*step->owners[i + kPrefetchNear]);
    if (token + kPrefetchFar < result.tokens_size()) Prefetch(result.tokens(token + kPrefetchFar));
    const ExpectedChunk& chunk = step->expected[i];
    CommitChunk(*step, i, chunk.draws ? &result.tokens(token++) : nullptr,
                chunk.targets.empty() ? nullptr : &result.prompt_logprobs(targets++), emissions);
    totals_.tokens_computed += chunk.tokens;
  }
  PublishFilled();
  ++totals_.steps;
  totals_.compute_micros += std::max<int64_t>(0, result.compute_micros());
  totals_.stall_micros += std::max<int64_t>(0, result.stall_micros());
  step->Clear();
  spare_steps_.push_back(std::move(step));
  ForgetOver();
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
    sampled += chunk.draws;
    if (sequence.state == Sequence::State::kOver) continue;
    if (chunk.start_position != sequence.computed) {
      return absl::InternalError(absl::StrCat("result of step ", step.id, ", sequence ",
                                              sequence.id, ": an earlier step's is still missing"));
    }
    if (chunk.draws && !MayFollow(sequence, result.tokens(next_token).token_id())) {
      return absl::InternalError(absl::StrCat(
          "result of step ", step.id, ", sequence ", sequence.id, ": token ",
          result.tokens(next_token).token_id(), "; expected one that the mask allows"));
    }
  }
  return absl::OkStatus();
}

// How long a step takes by itself. The leader's time counts from the start of the step's work,
// which is when it has the plan and room: of one stage per step, the step so many before has ended.
// (One step ahead continues from that one too.) In a pipeline that time overlaps with the steps
// before, so a step's own is what lies between the later of its start and the end of the step
// before, and its own end. All plans take about as long to get there: their sending stands for
// their arrival.
void Scheduler::Learn(const Step& step, int64_t compute_micros) {
  if (compute_micros <= 0) return;
  const size_t stages = static_cast<size_t>(limits_.max_steps_in_flight);
  const bool had_room = ended_.size() < stages;
  const absl::Time began = had_room ? step.sent_at : std::max(step.sent_at, ended_.front());
  const absl::Time last_end = ended_.empty() ? absl::InfinitePast() : ended_.back();
  const absl::Time end = began + absl::Microseconds(compute_micros);
  const absl::Duration own = end - std::max(began, last_end);
  if (!had_room) ended_.pop_front();
  ended_.push_back(std::max(end, last_end));
  const int64_t micros = absl::ToInt64Microseconds(own);
  if (cost_.known()) {
    step_noise_.Observe(cost_.PredictMicros(step.shape), static_cast<double>(micros));
  }
  cost_.Observe(step.shape, micros);
}

// An output that was cut short says only that the usual one may be longer.
void Scheduler::LearnOutput(const Sequence& choice, bool whole) {
  const double longer = choice.emitted() - typical_output_;
  if (whole || longer > 0) typical_output_ += kLearningRate * longer;
}

void Scheduler::CommitChunk(const Step& step, size_t index, const v1::SampledToken* token,
                            const v1::ChunkPromptLogprobs* targets, std::vector<Emission>* emissions) {
  Sequence* sequence = step.owners[index];
  LiveRequest* live = sequence->request;
  --sequence->in_flight;
  if (sequence->state == Sequence::State::kOver) {
    if (sequence->in_flight > 0) return;
    pool_.Release(&sequence->blocks);
    --live->lingering;
    return;
  }
  const int before = sequence->computed;
  sequence->computed += step.expected[index].tokens;
  const int filled = sequence->computed / limits_.block_tokens - before / limits_.block_tokens;
  const bool has_prompt = sequence->computed >= sequence->prompt_tokens;
  if (has_prompt && before < sequence->prompt_tokens && !live->prompt_known) ReleaseHeld(live);

  const bool scored = has_prompt && sequence->max_tokens == 0;
  if (token != nullptr || targets != nullptr || scored) {
    Emission& emission = emissions->emplace_back();
    emission.request_id = sequence->request_id;
    emission.choice = sequence->choice;
    if (targets != nullptr) {
      emission.targets.assign(targets->prompt_logprobs().begin(), targets->prompt_logprobs().end());
      live->targets_next += targets->prompt_logprobs_size();
    }
    if (scored) emission.finished = FinishCause::kLength;
    if (token != nullptr) Append(sequence, *token, &emission);
    if (emission.finished != FinishCause::kNone) {
      LearnOutput(*sequence, /*whole=*/true);
      ended_now_.push_back({live->begun_at, ExpectedMicros(*live, sequence->emitted())});
      if (filled > 0) pool_.Publish({WhatIsComputed(*sequence)});
      return FinishSequence(sequence);
    }
  }
  if (sequence->yielding && sequence->in_flight == 0) {
    if (filled > 0) pool_.Publish({WhatIsComputed(*sequence)});
    Preempt(sequence);
  } else if (filled > 0) {
    filled_.push_back(sequence);
    __builtin_prefetch(&sequence->blocks.back());
  }
}

KvPool::Computed Scheduler::WhatIsComputed(const Sequence& sequence) {
  const absl::Span<const int32_t> tokens = sequence.tokens;
  return {sequence.request->salt, tokens.first(static_cast<size_t>(sequence.computed)),
          sequence.blocks};
}

// Together, for they are all over the pool.
void Scheduler::PublishFilled() {
  published_.clear();
  for (const Sequence* sequence : filled_) published_.push_back(WhatIsComputed(*sequence));
  pool_.Publish(published_);
  filled_.clear();
}

void Scheduler::Append(Sequence* sequence, const v1::SampledToken& token, Emission* emission) {
  emission->token = &token;
  if (sequence->emitted() == 0) emission->cached_tokens = sequence->request->cached_tokens;
  if (--sequence->draws == 0) sequence->drawing_step = 0;
  sequence->tokens.push_back(token.token_id());
  UpdatePromise(sequence);
  if (!sequence->draws_alike && sequence->constraint != nullptr &&
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
