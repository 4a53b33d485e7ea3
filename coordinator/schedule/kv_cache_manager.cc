#include "coordinator/schedule/kv_cache_manager.h"

#include <algorithm>

#include "absl/types/span.h"

namespace tessera::coordinator {
namespace {

// The first prompt log probability to be emitted comes with the token before it, which is computed
// for that.
absl::Span<const int32_t> MatchableTokens(const Sequence& sequence) {
  const absl::Span<const int32_t> tokens = sequence.tokens;
  const int position = sequence.next_prompt_logprob();
  return position > 0 ? tokens.first(static_cast<size_t>(position)) : tokens;
}

KvPool::Computed WhatIsComputed(const Sequence& sequence) {
  const absl::Span<const int32_t> tokens = sequence.tokens;
  return {sequence.request->salt, tokens.first(static_cast<size_t>(sequence.computed)),
          sequence.blocks};
}

}  // namespace

KvCacheManager::KvCacheManager(const SchedulerLimits& limits)
    : block_tokens_(limits.block_tokens),
      prefix_caching_(limits.prefix_caching),
      pool_({.num_blocks = limits.num_blocks,
             .block_tokens = limits.block_tokens,
             .prefix_caching = limits.prefix_caching}) {}

// ---- a sequence that is to start

int KvCacheManager::CountCached(const RequestState& request) const {
  return pool_.PeekPrefix(request.salt, request.choices[0].tokens);
}

int KvCacheManager::BlocksNeeded(const Sequence& waiting) {
  const int free = pool_.free_count();
  std::vector<int32_t> matched;
  pool_.MatchPrefix(waiting.request->salt, MatchableTokens(waiting), &matched);
  const int taken = free - pool_.free_count();
  const int missing = BlocksFor(waiting.known()) - static_cast<int>(matched.size());
  pool_.Release(&matched);
  return taken + missing;
}

bool KvCacheManager::TakePrefix(Sequence* sequence, v1::StepPlan* plan) {
  sequence->prompt_logprobs_next = sequence->next_prompt_logprob();
  return ForkSibling(sequence, plan) || MatchPrefix(sequence);
}

// The last prompt token is computed again, for another sample from its row; or, when that is known
// too, the first token after the prompt.
bool KvCacheManager::ForkSibling(Sequence* sequence, v1::StepPlan* plan) {
  RequestState* request = sequence->request;
  const auto has_prompt = [request](const Sequence& choice) {
    return choice.state == Sequence::State::kRunning && choice.computed >= request->prompt_tokens;
  };
  const auto sibling = std::find_if(request->choices.begin(), request->choices.end(), has_prompt);
  if (sibling == request->choices.end()) return false;
  const int shared = std::min(request->prompt_tokens, sequence->known() - 1);
  const int blocks = BlocksFor(shared);
  const bool copies = shared % block_tokens_ != 0;
  if (BlocksFor(sequence->known()) - blocks + copies > spare_blocks()) return false;
  sequence->blocks = pool_.Fork({sibling->blocks.begin(), sibling->blocks.begin() + blocks});
  sequence->computed = sequence->sent = shared;
  if (!copies) return true;
  const KvPool::CopyResult own = pool_.CopyOnWrite(blocks - 1, &sequence->blocks);
  if (own.copy) {
    v1::BlockCopy* copy = plan->add_copies();
    copy->set_source(own.copy->source);
    copy->set_destination(own.copy->destination);
  }
  return true;
}

bool KvCacheManager::MatchPrefix(Sequence* sequence) {
  RequestState* request = sequence->request;
  const int matched =
      pool_.MatchPrefix(request->salt, MatchableTokens(*sequence), &sequence->blocks);
  const int missing = BlocksFor(sequence->known()) - static_cast<int>(sequence->blocks.size());
  if (missing > spare_blocks()) {
    pool_.Release(&sequence->blocks);
    return false;
  }
  sequence->computed = sequence->sent = matched;
  if (!request->admitted && prefix_caching_) {
    request->cached_tokens = matched;
    prefix_queries_ += request->prompt_tokens;
    prefix_hits_ += matched;
  }
  return true;
}

// ---- a running sequence

bool KvCacheManager::Grow(int tokens, Sequence* sequence) {
  if (!pool_.Grow(BlocksFor(tokens), &sequence->blocks)) return false;
  Reserve(sequence);
  return true;
}

int KvCacheManager::MostTokens(const Sequence& sequence) const {
  return (static_cast<int>(sequence.blocks.size()) + pool_.free_count()) * block_tokens_;
}

// ---- what was computed

void KvCacheManager::Commit(const Sequence& sequence) {
  const KvPool::Computed computed = WhatIsComputed(sequence);
  pool_.Commit(absl::MakeConstSpan(&computed, 1));
}

void KvCacheManager::Commit(const std::vector<Sequence*>& sequences) {
  computed_.clear();
  for (const Sequence* sequence : sequences) computed_.push_back(WhatIsComputed(*sequence));
  pool_.Commit(computed_);
}

}  // namespace tessera::coordinator
