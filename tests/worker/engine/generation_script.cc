#include "tests/worker/engine/generation_script.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

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

bool GenerationScript::Done(size_t request) const {
  const size_t generated = results_[request].tokens.size();
  return progress_[request].fed >= requests_[request].prompt.size() &&
         generated >= static_cast<size_t>(requests_[request].max_new_tokens);
}

absl::StatusOr<std::optional<v1::StepPlan>> GenerationScript::NextPlan(absl::Duration) {
  bool all_done = true;
  for (size_t i = 0; i < requests_.size(); ++i) all_done = all_done && Done(i);
  if (all_done) return absl::CancelledError("every request is done");
  if (static_cast<int>(in_flight_.size()) >= options_.steps_in_flight) return std::nullopt;

  v1::StepPlan step;
  int64_t budget = plan_.max_tokens_per_step();
  const int per_step =
      std::min<int>(plan_.max_sequences_per_step(),
                    (requests_.size() + options_.steps_in_flight - 1) / options_.steps_in_flight);
  for (size_t i = 0; i < requests_.size() && step.chunks_size() < per_step && budget > 0; ++i) {
    const size_t request = (next_request_ + i) % requests_.size();
    if (!Done(request) && !progress_[request].under_way) AddChunk(request, budget, step);
  }
  if (step.chunks_size() == 0) return std::nullopt;
  next_request_ = (step.chunks(step.chunks_size() - 1).sequence_id() + 1) % requests_.size();
  step.set_step_id(next_step_id_++);
  in_flight_[step.step_id()] = step;
  return step;
}

void GenerationScript::AddChunk(size_t request, int64_t& budget, v1::StepPlan& step) {
  Progress& progress = progress_[request];
  const int64_t unfed = progress.known.size() - progress.fed;
  const int64_t count = std::min<int64_t>({unfed, options_.prompt_chunk, budget});
  v1::SequenceChunk& chunk = *step.add_chunks();
  chunk.set_sequence_id(request);
  chunk.set_start_position(progress.fed);
  for (int64_t i = 0; i < count; ++i) chunk.add_token_ids(progress.known[progress.fed + i]);
  FillBlockTable(request, progress.fed + count, chunk);
  chunk.set_return_logits(requests_[request].return_logits);
  const bool wants_more =
      results_[request].tokens.size() < static_cast<size_t>(requests_[request].max_new_tokens);
  if (count == unfed && wants_more) *chunk.mutable_sampling() = requests_[request].sampling;
  progress.under_way = true;
  budget -= count;
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
    progress.fed += chunk.token_ids_size();
    progress.under_way = false;
    if (chunk.has_sampling()) {
      if (next_token >= result.tokens_size() ||
          result.tokens(next_token).sequence_id() != chunk.sequence_id()) {
        return absl::InternalError(
            absl::StrCat("step ", result.step_id(), " lacks a token of ", chunk.sequence_id()));
      }
      out.details.push_back(result.tokens(next_token++));
      out.tokens.push_back(out.details.back().token_id());
      progress.known.push_back(out.tokens.back());
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
