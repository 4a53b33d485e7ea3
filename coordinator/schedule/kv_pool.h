// The KV blocks of a group: who holds them, and what the full ones contain.
//
// The ids mean the same on every rank of the group: one block table serves all of them, so one pool
// in the coordinator is enough. A block may have several holders (a shared prefix, the choices of
// one request). A full block whose content is known is committed under the chain of blocks before
// it; once nobody holds it, it stays findable until its room is needed (least recently used first,
// the ends of chains before their beginnings). A match is by the tokens themselves and the salt,
// never by a hash alone.
//
// Not thread-safe: the scheduler's. A block released twice, or one that never existed, is a broken
// invariant of ours and aborts with a message.
//
//   KvPool pool({.num_blocks = 100, .block_tokens = 16});
//   std::vector<int32_t> table;
//   int known = pool.MatchPrefix(salt, tokens, &table);  // 0, 16, 32, ... tokens are here already
//   if (pool.Grow(7, &table)) ...                        // seven blocks in all, or as before
//   pool.Commit(salt, tokens_computed, table);           // after each step
//   pool.Release(&table);
#ifndef TESSERA_COORDINATOR_SCHEDULE_KV_POOL_H_
#define TESSERA_COORDINATOR_SCHEDULE_KV_POOL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"

namespace tessera::coordinator {

struct KvPoolOptions {
  int num_blocks = 0;
  int block_tokens = 16;
  bool prefix_caching = true;  // off: MatchPrefix finds nothing, Commit does nothing
};

struct KvBlockCopy {
  int32_t source = 0;
  int32_t destination = 0;
};

class KvPool {
 public:
  explicit KvPool(const KvPoolOptions& options);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  // Appends fresh blocks until `table` holds `count`. All or nothing: false when too few are free.
  bool Grow(int count, std::vector<int32_t>* table);

  // One holder less for every block of `table`, and clears it. Blocks without a holder are free;
  // committed ones stay findable.
  void Release(std::vector<int32_t>* table);

  // Appends to the empty `table` the longest committed chain that `tokens` begin with under `salt`,
  // holding each, and returns how many tokens that is: at most tokens.size() - 1, since the last
  // token has to be computed for its logits.
  int MatchPrefix(uint64_t salt, absl::Span<const int32_t> tokens, std::vector<int32_t>* table);

  // How many tokens MatchPrefix would find; changes nothing, not even the order of use.
  int PeekPrefix(uint64_t salt, absl::Span<const int32_t> tokens) const;

  struct Computed {
    uint64_t salt = 0;
    absl::Span<const int32_t> tokens;  // from position 0
    absl::Span<const int32_t> table;   // the blocks that hold their keys and values
  };
  // Commits the full blocks of each. Cheap when called after every step: what has been committed
  // is skipped. A block with the content of another already committed one stays its holder's own.
  void Commit(absl::Span<const Computed> sequences);
  void Commit(uint64_t salt, absl::Span<const int32_t> tokens, absl::Span<const int32_t> table);

  // A second holder for every block of `table`.
  std::vector<int32_t> Fork(const std::vector<int32_t>& table);

  // Before position index * block_tokens and later ones are written: makes `table`[index] a block
  // that its holder alone has and that is not committed. The copy to make first, if any; an error
  // (false in .ok) when no block is free.
  struct CopyResult {
    bool ok = true;
    std::optional<KvBlockCopy> copy;
  };
  CopyResult CopyOnWrite(int index, std::vector<int32_t>* table);

  // The group that held the contents is gone: nothing is findable any more. Holders stay.
  void ForgetContents();

  int free_count() const;    // blocks nobody holds: what Grow can give
  int cached_count() const;  // of those: committed ones
  int total() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_KV_POOL_H_
