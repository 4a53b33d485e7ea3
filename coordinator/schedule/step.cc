#include "coordinator/schedule/step.h"

#include <algorithm>

#include "coordinator/schedule/draw_state.h"

namespace tessera::coordinator {
namespace {

constexpr int32_t kStillDrawn = -1;  // stands for the token that last_token_from_step draws
constexpr int32_t kNoTarget = -1;

// The plan's chunk at `index`, or a new one behind the last. An old one keeps its memory: Clear
// would free the sampling parameters, so they stay and FillDraw writes over them.
v1::SequenceChunk* ChunkAt(int index, bool draws, v1::StepPlan* plan) {
  if (index == plan->chunks_size()) return plan->add_chunks();
  v1::SequenceChunk* chunk = plan->mutable_chunks(index);
  v1::SamplingParams* sampling = chunk->release_sampling();
  chunk->Clear();
  if (draws) {
    chunk->set_allocated_sampling(sampling);
  } else {
    delete sampling;
  }
  return chunk;
}

void FillTokens(const Sequence& sequence, int count, v1::SequenceChunk* chunk) {
  chunk->set_start_position(sequence.sent);
  if (sequence.awaits_token()) {
    chunk->add_token_ids(kStillDrawn);
    chunk->set_last_token_from_step(sequence.drawing_step);
    return;
  }
  const auto first = sequence.tokens.begin() + sequence.sent;
  chunk->mutable_token_ids()->Add(first, first + count);
}

void FillBlocks(const Sequence& sequence, int block_count, v1::SequenceChunk* chunk) {
  chunk->mutable_block_table()->Add(sequence.blocks.begin(), sequence.blocks.begin() + block_count);
}

// A target at prompt position p is asked for with the token at p - 1.
void FillTargets(int count, Sequence* sequence, v1::SequenceChunk* chunk, ExpectedChunk* expected) {
  const LiveRequest& live = *sequence->request;
  const int end = std::min(sequence->sent + count + 1, live.prompt_tokens);
  if (sequence->targets_next == 0 || sequence->targets_next >= end) return;
  for (int position = sequence->sent + 1; position <= sequence->sent + count; ++position) {
    const bool wanted = position >= sequence->targets_next && position < end;
    const int32_t id = wanted ? sequence->tokens[static_cast<size_t>(position)] : kNoTarget;
    chunk->add_target_ids(id);
    if (wanted) expected->targets.push_back(id);
  }
  chunk->set_num_target_logprobs(live.request.target_logprobs);
  expected->num_target_logprobs = live.request.target_logprobs;
  sequence->targets_next = end;
}

}  // namespace

void AppendChunk(const SchedulerLimits& limits, int count, Sequence* sequence, Step* step,
                 v1::StepPlan* plan) {
  const ScheduledRequest& request = sequence->request->request;
  const int end = sequence->sent + count;
  const int index = static_cast<int>(step->expected.size());
  ExpectedChunk& expected = step->expected.emplace_back();
  expected.sequence_id = sequence->id;
  expected.start_position = sequence->sent;
  expected.tokens = count;
  expected.draws = end >= sequence->known() && request.max_tokens > 0;
  expected.num_logprobs = request.sampling.num_logprobs();
  expected.logits = request.return_logits;

  v1::SequenceChunk* chunk = ChunkAt(index, expected.draws, plan);
  chunk->set_sequence_id(sequence->id);
  FillTokens(*sequence, count, chunk);
  FillBlocks(*sequence, (end + limits.block_tokens - 1) / limits.block_tokens, chunk);
  FillTargets(count, sequence, chunk, &expected);
  if (expected.draws) FillDraw(*sequence, limits.vocab_size, chunk);
  if (expected.logits) chunk->set_return_logits(true);

  step->owners.push_back({sequence->request->shared_from_this(), sequence});
  sequence->sent = end;
  sequence->newest_step = step->id;
  ++sequence->in_flight;
  if (!expected.draws) return;
  ++sequence->draws;
  sequence->drawing_step = step->id;
}

}  // namespace tessera::coordinator
