#include "coordinator/schedule/step.h"

#include <algorithm>

#include "coordinator/schedule/logits_state.h"

namespace tessera::coordinator {
namespace {

constexpr int32_t kPlaceholder = -1;  // stands for the token that last_token_from_step samples
constexpr int32_t kNotWanted = -1;

// How many chunks of ended sequences may stand before the one looked for.
constexpr int kMostSkipped = 64;
constexpr int kMostMissed = 8;

// The plan's chunk at `index`, or a new one behind the last, empty. An old one keeps its memory:
// Clear would free the sampling parameters, so they stay and FillSampling writes over them.
v1::SequenceChunk* EmptyChunkAt(int index, bool samples, v1::StepPlan* plan) {
  if (index == plan->chunks_size()) return plan->add_chunks();
  v1::SequenceChunk* chunk = plan->mutable_chunks(index);
  v1::SamplingParams* sampling = chunk->release_sampling();
  chunk->Clear();
  if (samples) {
    chunk->set_allocated_sampling(sampling);
  } else {
    delete sampling;
  }
  return chunk;
}

// The chunk that `sequence` had in the plan's earlier step, moved to `index`; null when that is not
// to be found. Its blocks and sampling parameters are as they were then.
v1::SequenceChunk* KeptChunkAt(int index, const Sequence& sequence, EarlierPlan* earlier) {
  if (earlier->step_id == 0 || sequence.newest_step != earlier->step_id) return nullptr;
  auto* chunks = earlier->plan->mutable_chunks();
  const int first = index + earlier->skipped;
  const int end = std::min(chunks->size(), first + kMostSkipped);
  for (int i = first; i < end; ++i) {
    if (chunks->Get(i).sequence_id() != sequence.id) continue;
    earlier->skipped = i - index;
    if (i != index) chunks->SwapElements(i, index);
    return chunks->Mutable(index);
  }
  if (++earlier->missed > kMostMissed) earlier->step_id = 0;  // in another order: not worth it
  return nullptr;
}

// A decode that follows another one of the same sequence: the token changes, and a block may be
// new. All else in the chunk is what it was.
bool IsPlainDecode(const v1::SequenceChunk& chunk) {
  return chunk.token_ids_size() == 1 && chunk.has_sampling() && !chunk.has_logits_state() &&
         chunk.prompt_logprob_ids_size() == 0;
}

void FillNextToken(const Sequence& sequence, v1::SequenceChunk* chunk) {
  chunk->set_start_position(sequence.sent);
  const bool awaits = sequence.awaits_token();
  chunk->set_token_ids(0,
                       awaits ? kPlaceholder : sequence.tokens[static_cast<size_t>(sequence.sent)]);
  chunk->set_last_token_from_step(awaits ? sequence.sampling_step : 0);
}

void FillTokens(const Sequence& sequence, int count, v1::SequenceChunk* chunk) {
  if (sequence.awaits_token()) {
    chunk->add_token_ids(kPlaceholder);
    return FillNextToken(sequence, chunk);
  }
  chunk->set_start_position(sequence.sent);
  const auto first = sequence.tokens.begin() + sequence.sent;
  chunk->mutable_token_ids()->Add(first, first + count);
}

void FillBlocks(const Sequence& sequence, int block_count, v1::SequenceChunk* chunk) {
  const int kept = chunk->block_table_size();  // of a sequence that goes on: tables only grow
  if (kept == block_count) return;
  chunk->mutable_block_table()->Add(sequence.blocks.begin() + kept,
                                    sequence.blocks.begin() + block_count);
}

// The log probability of prompt position p is asked for with the token at p - 1.
void FillPromptLogprobs(int count, Sequence* sequence, v1::SequenceChunk* chunk,
                        ExpectedChunk* expected) {
  const RequestState& state = *sequence->request;
  const int end = std::min(sequence->sent + count + 1, state.prompt_tokens);
  if (sequence->prompt_logprobs_next == 0 || sequence->prompt_logprobs_next >= end) return;
  for (int position = sequence->sent + 1; position <= sequence->sent + count; ++position) {
    const bool wanted = position >= sequence->prompt_logprobs_next && position < end;
    const int32_t id = wanted ? sequence->tokens[static_cast<size_t>(position)] : kNotWanted;
    chunk->add_prompt_logprob_ids(id);
    if (wanted) expected->prompt_logprob_ids.push_back(id);
  }
  chunk->set_num_prompt_logprobs(state.request.num_prompt_logprobs);
  expected->num_prompt_logprobs = state.request.num_prompt_logprobs;
  sequence->prompt_logprobs_next = end;
}

}  // namespace

void AppendChunk(const SchedulerLimits& limits, int count, Sequence* sequence, Step* step,
                 EarlierPlan* earlier) {
  const int end = sequence->sent + count;
  const int index = static_cast<int>(step->expected.size());
  ExpectedChunk& expected = step->expected.emplace_back();
  expected.sequence_id = sequence->id;
  expected.start_position = sequence->sent;
  expected.tokens = count;
  expected.samples = end >= sequence->known() && sequence->max_tokens > 0;
  expected.num_logprobs = sequence->num_logprobs;

  const int block_count = (end + limits.block_tokens - 1) / limits.block_tokens;
  v1::SequenceChunk* chunk = nullptr;
  if (count == 1 && expected.samples && sequence->stateless_sampling) {
    chunk = KeptChunkAt(index, *sequence, earlier);
  }
  if (chunk != nullptr && IsPlainDecode(*chunk)) {
    expected.logits = chunk->return_logits();
    FillNextToken(*sequence, chunk);
    FillBlocks(*sequence, block_count, chunk);
  } else {
    const ScheduledRequest& request = sequence->request->request;
    expected.logits = request.return_logits;
    chunk = EmptyChunkAt(index, expected.samples, earlier->plan);
    chunk->set_sequence_id(sequence->id);
    FillTokens(*sequence, count, chunk);
    FillBlocks(*sequence, block_count, chunk);
    FillPromptLogprobs(count, sequence, chunk, &expected);
    if (expected.samples) FillSampling(*sequence, limits.vocab_size, chunk);
    if (expected.logits) chunk->set_return_logits(true);
  }

  step->owners.push_back(sequence);
  sequence->sent = end;
  sequence->newest_step = step->id;
  ++sequence->in_flight;
  if (!expected.samples) return;
  ++sequence->pending_samples;
  sequence->sampling_step = step->id;
}

}  // namespace tessera::coordinator
