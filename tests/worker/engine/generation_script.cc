#include "tests/worker/engine/generation_script.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/engine/logits_processors.h"

namespace tessera::worker {

v1::SamplingParams GreedyParams() {
  v1::SamplingParams params;
  params.set_top_p(1);
  params.set_num_logprobs(-1);
  return params;
}

GenerationScript::GenerationScript(const v1::ShardPlan& plan,
                                   std::vector<GenerationRequest> requests,
                                   const GenerationOptions& options)
    : plan_(plan),
      requests_(std::move(requests)),
      options_(options),
      progress_(requests_.size()),
      results_(requests_.size()) {
  for (size_t i = 0; i < requests_.size(); ++i) progress_[i].known = requests_[i].prompt;
}

// Every token that will be sampled is sampled or being sampled.
bool GenerationScript::Done(size_t request) const {
  const size_t sampled = results_[request].tokens.size() + progress_[request].sampling.size();
  return progress_[request].fed >= requests_[request].prompt.size() &&
         sampled >= static_cast<size_t>(requests_[request].max_new_tokens);
}

bool GenerationScript::MayCompose(size_t request) const {
  if (Done(request)) return false;
  const Progress& progress = progress_[request];
  return progress.under_way == 0 || (options_.async_scheduling && progress.sampling.size() < 2);
}

absl::StatusOr<std::optional<v1::StepPlan>> GenerationScript::NextPlan(absl::Duration) {
  const size_t most = options_.steps_in_flight + (options_.async_scheduling ? 1 : 0);
  while (in_flight_.size() < most) {
    v1::StepPlan step = Compose();
    if (step.chunks_size() == 0) break;
    in_flight_[step.step_id()] = step;
    ready_.push_back(std::move(step));
  }
  if (ready_.empty()) {
    if (in_flight_.empty()) return absl::CancelledError("every request is done");
    return std::nullopt;
  }
  v1::StepPlan step = std::move(ready_.front());
  ready_.pop_front();
  return step;
}

v1::StepPlan GenerationScript::Compose() {
  v1::StepPlan step;
  step.set_step_id(next_step_id_);
  int64_t budget = plan_.max_tokens_per_step();
  const int per_step =
      std::min<int>(plan_.max_sequences_per_step(),
                    (requests_.size() + options_.steps_in_flight - 1) / options_.steps_in_flight);
  for (size_t i = 0; i < requests_.size() && step.chunks_size() < per_step && budget > 0; ++i) {
    const size_t request = (next_request_ + i) % requests_.size();
    if (MayCompose(request)) AddChunk(request, budget, step);
  }
  if (step.chunks_size() == 0) return step;
  next_request_ = (step.chunks(step.chunks_size() - 1).sequence_id() + 1) % requests_.size();
  ++next_step_id_;
  return step;
}

void GenerationScript::AddChunk(size_t request, int64_t& budget, v1::StepPlan& step) {
  Progress& progress = progress_[request];
  v1::SequenceChunk& chunk = *step.add_chunks();
  chunk.set_sequence_id(request);
  chunk.set_start_position(progress.fed);
  const int64_t unfed = static_cast<int64_t>(progress.known.size() - progress.fed);
  const int64_t count = std::min<int64_t>({unfed, options_.prompt_chunk, budget});
  for (int64_t i = 0; i < count; ++i) chunk.add_token_ids(progress.known[progress.fed + i]);
  if (unfed == 0) {
    chunk.add_token_ids(-1);
    chunk.set_last_token_from_step(progress.sampling.back());
    ++tokens_ahead_;
  }
  FillBlockTable(request, progress.fed + chunk.token_ids_size(), chunk);
  chunk.set_return_logits(requests_[request].return_logits);
  const size_t sampled = results_[request].tokens.size() + progress.sampling.size();
  const bool wants_more = sampled < static_cast<size_t>(requests_[request].max_new_tokens);
  if (count == unfed && wants_more) {
    *chunk.mutable_sampling() = requests_[request].sampling;
    FillLogitsState(request, chunk);
    progress.sampling.push_back(step.step_id());
  }
  progress.fed += chunk.token_ids_size();
  ++progress.under_way;
  budget -= chunk.token_ids_size();
}

// What is known now: the leader appends the token that is still being sampled.
void GenerationScript::FillLogitsState(size_t request, v1::SequenceChunk& chunk) const {
  *chunk.mutable_logits_state() = requests_[request].logits_state;
  if (!HasPenalties(chunk.sampling())) return;
  const std::vector<int32_t>& prompt = requests_[request].prompt;
  for (int32_t id : std::set<int32_t>(prompt.begin(), prompt.end())) {
    chunk.mutable_logits_state()->add_prompt_ids(id);
  }
  for (int32_t id : results_[request].tokens) chunk.mutable_logits_state()->add_output_ids(id);
}

// Request r of R owns blocks r, r + R, r + 2R, ...
void GenerationScript::FillBlockTable(size_t request, int64_t positions,
                                      v1::SequenceChunk& chunk) const {
  const int64_t blocks = (positions + plan_.kv_block_tokens() - 1) / plan_.kv_block_tokens();
  for (int64_t i = 0; i < blocks; ++i) {
    chunk.add_block_table(static_cast<int32_t>(request + i * requests_.size()));
  }
}

absl::Status GenerationScript::SendResult(v1::StepResult result) {
  const auto found = in_flight_.find(result.step_id());
  if (found == in_flight_.end()) {
    return absl::InternalError(absl::StrCat("a result of unknown step ", result.step_id()));
  }
  int next_token = 0, next_logits = 0;
  for (const v1::SequenceChunk& chunk : found->second.chunks()) {
    Progress& progress = progress_[chunk.sequence_id()];
    GenerationResult& out = results_[chunk.sequence_id()];
    --progress.under_way;
    if (chunk.has_sampling()) {
      if (next_token >= result.tokens_size() ||
          result.tokens(next_token).sequence_id() != chunk.sequence_id()) {
        return absl::InternalError(
            absl::StrCat("step ", result.step_id(), " lacks a token of ", chunk.sequence_id()));
      }
      out.details.push_back(result.tokens(next_token++));
      out.tokens.push_back(out.details.back().token_id());
      progress.known.push_back(out.tokens.back());
      progress.sampling.erase(progress.sampling.begin());
    }
    if (chunk.return_logits()) {
      if (next_logits >= result.logits_size()) {
        return absl::InternalError(absl::StrCat("step ", result.step_id(), " lacks logits"));
      }
      const std::string& values = result.logits(next_logits++).values();
      const size_t before = out.logits.size();
      out.logits.resize(before + values.size() / sizeof(float));
      std::memcpy(out.logits.data() + before, values.data(), values.size());
    }
  }
  if (next_token != result.tokens_size() || next_logits != result.logits_size()) {
    return absl::InternalError(absl::StrCat("step ", result.step_id(), " has more than asked for"));
  }
  in_flight_.erase(found);
  return absl::OkStatus();
}

}  // namespace tessera::worker
