#include "coordinator/simulate/simulated_worker.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::testing {
namespace {

constexpr size_t kRememberedSteps = 16;

absl::Status Wrong(const v1::SequenceChunk& chunk, const std::string& what) {
  return absl::FailedPreconditionError(absl::StrCat(
      "sequence ", chunk.sequence_id(), " at position ", chunk.start_position(), ": ", what));
}

int EndOf(const v1::SequenceChunk& chunk) {
  return chunk.start_position() + chunk.token_ids_size();
}

}  // namespace

SimulatedWorker::SimulatedWorker(const SimulatedWorkerOptions& options)
    : options_(options),
      slots_(static_cast<size_t>(options.num_blocks) * static_cast<size_t>(options.block_tokens)) {}

absl::StatusOr<v1::StepResult> SimulatedWorker::Execute(const v1::StepPlan& plan) {
  v1::StepResult result;
  result.set_step_id(plan.step_id());
  absl::Status status =
      plan.chunks_size() > 0 ? absl::OkStatus() : absl::FailedPreconditionError("no chunks");
  if (status.ok() && options_.thorough) status = CheckWrites(plan);
  if (status.ok()) status = CopyBlocks(plan);
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    if (status.ok()) status = CheckChunk(chunk);
    if (status.ok()) status = ExecuteChunk(chunk, &result);
  }
  if (!status.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", plan.step_id(), ": ", std::string(status.message())));
  }
  Remember(result);
  return result;
}

// No block that a chunk writes stands in another chunk's table.
absl::Status SimulatedWorker::CheckWrites(const v1::StepPlan& plan) const {
  std::map<int32_t, std::set<int64_t>> readers;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    for (const int32_t block : chunk.block_table()) {
      if (!readers[block].insert(chunk.sequence_id()).second) {
        return Wrong(chunk, absl::StrCat("block ", block, " twice, or two chunks in a step"));
      }
    }
  }
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    for (int i = chunk.start_position() / options_.block_tokens; i < chunk.block_table_size();
         ++i) {
      if (readers[chunk.block_table(i)].size() > 1) {
        return Wrong(chunk,
                     absl::StrCat("writes block ", chunk.block_table(i), ", which others read"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SimulatedWorker::CheckChunk(const v1::SequenceChunk& chunk) const {
  if (chunk.token_ids_size() == 0) return Wrong(chunk, "no tokens");
  const int blocks = (EndOf(chunk) + options_.block_tokens - 1) / options_.block_tokens;
  if (chunk.start_position() < 0 || chunk.block_table_size() != blocks) {
    return Wrong(
        chunk, absl::StrCat("a table of ", chunk.block_table_size(), " blocks; expected ", blocks));
  }
  for (const int32_t block : chunk.block_table()) {
    if (block < 0 || block >= options_.num_blocks) {
      return Wrong(chunk, absl::StrCat("block ", block, " of ", options_.num_blocks));
    }
  }
  if (chunk.prompt_logprob_ids_size() != 0 && chunk.prompt_logprob_ids_size() != chunk.token_ids_size()) {
    return Wrong(chunk, absl::StrCat(chunk.prompt_logprob_ids_size(), " targets for ",
                                     chunk.token_ids_size(), " tokens"));
  }
  return absl::OkStatus();
}

absl::Status SimulatedWorker::CopyBlocks(const v1::StepPlan& plan) {
  const size_t size = static_cast<size_t>(options_.block_tokens);
  for (const v1::BlockCopy& copy : plan.copies()) {
    for (const int32_t block : {copy.source(), copy.destination()}) {
      if (block < 0 || block >= options_.num_blocks) {
        return absl::FailedPreconditionError(absl::StrCat("copy of block ", block));
      }
    }
    std::copy_n(slots_.begin() + static_cast<std::ptrdiff_t>(copy.source() * size), size,
                slots_.begin() + static_cast<std::ptrdiff_t>(copy.destination() * size));
  }
  return absl::OkStatus();
}

// The chunk's token itself, or the one that an earlier step drew.
absl::StatusOr<int32_t> SimulatedWorker::TokenAt(const v1::SequenceChunk& chunk, int index) const {
  const int32_t token = chunk.token_ids(index);
  const bool waits = chunk.last_token_from_step() != 0 && index == chunk.token_ids_size() - 1;
  if (!waits) {
    if (token >= 0 && token < options_.model.vocab_size) return token;
    return Wrong(chunk, absl::StrCat("token ", token, " of ", options_.model.vocab_size));
  }
  if (token != -1) return Wrong(chunk, absl::StrCat("token ", token, " where a -1 should stand"));
  for (const Drawn& drawn : recent_) {
    if (drawn.step_id != chunk.last_token_from_step()) continue;
    const auto found = std::lower_bound(drawn.tokens.begin(), drawn.tokens.end(),
                                        std::make_pair(chunk.sequence_id(), int32_t{0}));
    if (found == drawn.tokens.end() || found->first != chunk.sequence_id()) break;
    return found->second;
  }
  return Wrong(chunk, absl::StrCat("step ", chunk.last_token_from_step(), " drew nothing for it"));
}

absl::StatusOr<uint64_t> SimulatedWorker::StateBefore(const v1::SequenceChunk& chunk) const {
  const int start = chunk.start_position();
  if (start == 0) return 0;
  if (!options_.thorough) return At(chunk, start - 1).state;
  uint64_t state = 0;
  for (int position = 0; position < start; ++position) {
    const Slot& slot = At(chunk, position);
    state = SimulatedModel::Extend(state, slot.token);
    if (slot.token < 0 || slot.state != state) {
      return Wrong(chunk, absl::StrCat("position ", position,
                                       " in the KV cache is another "
                                       "sequence's"));
    }
  }
  return state;
}

absl::Status SimulatedWorker::ExecuteChunk(const v1::SequenceChunk& chunk, v1::StepResult* result) {
  TESSERA_ASSIGN_OR_RETURN(uint64_t state, StateBefore(chunk));
  v1::ChunkPromptLogprobs targets;
  for (int i = 0; i < chunk.token_ids_size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(const int32_t token, TokenAt(chunk, i));
    state = SimulatedModel::Extend(state, token);
    At(chunk, chunk.start_position() + i) = {state, token};
    if (i < chunk.prompt_logprob_ids_size() && chunk.prompt_logprob_ids(i) >= 0) {
      *targets.add_prompt_logprobs() =
          options_.model.Score(state, chunk.prompt_logprob_ids(i), chunk.num_prompt_logprobs());
    }
  }
  if (chunk.prompt_logprob_ids_size() > 0) {
    targets.set_sequence_id(chunk.sequence_id());
    *result->add_prompt_logprobs() = std::move(targets);
  }
  if (chunk.return_logits()) return Wrong(chunk, "a simulated model has no logits");
  if (!chunk.has_sampling()) return absl::OkStatus();
  v1::SampledToken* token = result->add_tokens();
  token->set_sequence_id(chunk.sequence_id());
  const v1::LogitsState* draw = chunk.has_logits_state() ? &chunk.logits_state() : nullptr;
  if (options_.model.Draw(state, chunk.sampling(), draw, token)) return absl::OkStatus();
  return Wrong(chunk, "no token may be drawn");
}

void SimulatedWorker::Remember(const v1::StepResult& result) {
  Drawn drawn{result.step_id(), {}};
  drawn.tokens.reserve(static_cast<size_t>(result.tokens_size()));
  for (const v1::SampledToken& token : result.tokens()) {
    drawn.tokens.emplace_back(token.sequence_id(), token.token_id());
  }
  std::sort(drawn.tokens.begin(), drawn.tokens.end());
  recent_.push_front(std::move(drawn));
  if (recent_.size() > kRememberedSteps) recent_.pop_back();
}

SimulatedWorker::Slot& SimulatedWorker::At(const v1::SequenceChunk& chunk, int position) {
  const size_t block = static_cast<size_t>(chunk.block_table(position / options_.block_tokens));
  return slots_[block * static_cast<size_t>(options_.block_tokens) +
                static_cast<size_t>(position % options_.block_tokens)];
}

const SimulatedWorker::Slot& SimulatedWorker::At(const v1::SequenceChunk& chunk,
                                                 int position) const {
  return const_cast<SimulatedWorker*>(this)->At(chunk, position);
}

}  // namespace tessera::testing
