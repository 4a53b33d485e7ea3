// The KV blocks of sequences: what a sequence finds in the cache when it starts, what it grows by,
// and what it leaves to be found. Blocks are reserved for all tokens that a running sequence is
// known to have, so that a prompt is not admitted only to be preempted: another one is admitted on
// the spare blocks alone.
//
// Above KvPool, which knows blocks and tokens and no sequence. Changes a sequence's blocks and
// reserved_blocks, and with TakePrefix how far it is computed; borrows the sequences. Pure, not
// thread-safe: the scheduler's.
//
//   KvCacheManager cache(limits);
//   if (cache.TakePrefix(&sequence, plan)) ...   // sequence.computed tokens need no computing
//   table.Start(&sequence);
//   cache.Reserve(&sequence);
//   if (cache.Grow(tokens, &sequence)) ...       // else somebody has to be preempted
//   cache.Commit(sequence);                      // full blocks can be found from now on
//   cache.Release(&sequence);
#ifndef TESSERA_COORDINATOR_SCHEDULE_KV_CACHE_MANAGER_H_
#define TESSERA_COORDINATOR_SCHEDULE_KV_CACHE_MANAGER_H_

#include <cstdint>
#include <vector>

#include "coordinator/schedule/kv_pool.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/sequence.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

class KvCacheManager {
 public:
  explicit KvCacheManager(const SchedulerLimits& limits);

  int BlocksFor(int tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }
  int block_tokens() const { return block_tokens_; }

  // ---- A sequence that is to start

  // Tokens of the prompt that are in the cache now. Changes nothing.
  int CountCached(const RequestState& request) const;
  // Blocks that are free now and that it would hold after TakePrefix and its known tokens.
  int BlocksNeeded(const Sequence& waiting);
  // Takes what is known of its tokens already: forked from a choice of the same request, or matched
  // in the prefix cache. False, with nothing taken, when there are too few spare blocks for the
  // rest. A block that is forked and written next is copied: `plan` is told.
  bool TakePrefix(Sequence* sequence, v1::StepPlan* plan);

  // ---- A running sequence

  // Reserves what its known tokens need beyond its blocks; again whenever one of both has changed.
  void Reserve(Sequence* sequence) {
    const int missing = BlocksFor(sequence->known()) - static_cast<int>(sequence->blocks.size());
    const int reserved = missing > 0 ? missing : 0;
    reserved_ += reserved - sequence->reserved_blocks;
    sequence->reserved_blocks = reserved;
  }
  void Unreserve(Sequence* sequence) {
    reserved_ -= sequence->reserved_blocks;
    sequence->reserved_blocks = 0;
  }
  // Blocks for its first `tokens` tokens. All or nothing: false when too few are free.
  bool Grow(int tokens, Sequence* sequence);
  // The most tokens that it could have after Grow.
  int MostTokens(const Sequence& sequence) const;
  // Its blocks, to whoever needs some; what they contain stays findable.
  void Release(Sequence* sequence) { pool_.Release(&sequence->blocks); }

  // ---- What was computed

  // Makes its full blocks findable.
  void Commit(const Sequence& sequence);
  // Makes those of all of these findable, which is quicker than one after the other.
  void Commit(const std::vector<Sequence*>& sequences);
  // The group that held the contents is gone.
  void ForgetContents() { pool_.ForgetContents(); }

  int free_blocks() const { return pool_.free_count(); }
  int spare_blocks() const { return pool_.free_count() - reserved_; }  // free and not reserved
  int cached_blocks() const { return pool_.cached_count(); }
  int total_blocks() const { return pool_.total(); }
  int64_t prefix_queries() const { return prefix_queries_; }  // prompt tokens looked up
  int64_t prefix_hits() const { return prefix_hits_; }        // of those, found

 private:
  bool ForkSibling(Sequence* sequence, v1::StepPlan* plan);
  bool MatchPrefix(Sequence* sequence);

  const int block_tokens_;
  const bool prefix_caching_;
  KvPool pool_;
  int reserved_ = 0;  // sum over running sequences
  int64_t prefix_queries_ = 0;
  int64_t prefix_hits_ = 0;
  std::vector<KvPool::Computed> computed_;  // scratch of Commit
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_KV_CACHE_MANAGER_H_
