#include "coordinator/schedule/kv_pool.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "absl/hash/hash.h"
#include "coordinator/schedule/prefetch.h"

namespace tessera::coordinator {
namespace {

constexpr int32_t kNone = -1;
constexpr size_t kBucketsPerBlock = 2;  // most lists have one block or none

[[noreturn]] void Die(const char* what, int64_t value, int64_t limit) {
  std::fprintf(stderr, "KvPool: %s %lld of %lld\n", what, static_cast<long long>(value),
               static_cast<long long>(limit));
  std::abort();
}

size_t PowerOfTwoAtLeast(size_t n) {
  size_t power = 1;
  while (power < n) power *= 2;
  return power;
}

}  // namespace

// Committed blocks form one tree per salt: a block's parent is the committed block of the tokens
// before its own. A parent's identity stands for its whole chain (it goes only together with its
// descendants), so comparing a block's own tokens and its parent compares everything up to it.
//
// All links are indices into blocks_. A pool may have half a million blocks and more, of which a
// step touches a few hundred anywhere: a block is one cache line, asked for before it is needed.
struct KvPool::Impl {
  struct alignas(64) Block {
    int32_t holders = 0;
    // The committed block with the same content: the block itself once committed, another one for a
    // twin (two requests computed the same prompt), kNone while unknown. Of a twin it counts only
    // while that block is committed and still has the twin's birth.
    int32_t canonical = kNone;
    int64_t birth = 0;  // of its commit, unique; a twin: of its canonical's
    uint64_t salt = 0;  // committed: of the chain
    size_t hash = 0;    // committed: of salt and all tokens up to its end
    int32_t next_in_bucket = kNone;
    int32_t parent = kNone;  // kNone: the first block of its chain
    int32_t first_child = kNone;
    int32_t next_sibling = kNone;
    int32_t previous_sibling = kNone;
    int32_t older = kNone;  // in the LRU list, while free and committed
    int32_t newer = kNone;
    bool committed = false;
  };
  static_assert(sizeof(Block) == 64);

  struct New {  // to be committed
    int32_t id = kNone;
    int32_t parent = kNone;  // committed; of the first of a chain alone
    bool follows = false;    // the one before in the list
    uint64_t salt = 0;
    size_t hash = 0;
    absl::Span<const int32_t> tokens;
  };

  const int block_tokens;
  const bool prefix_caching;
  std::vector<Block> blocks;
  std::unique_ptr<int32_t[]> contents;  // (num_blocks, block_tokens), of committed blocks
  std::vector<int32_t> buckets;         // heads of the lists of equal hash % size
  std::vector<int32_t> plain;           // free and not committed; the one freed last is the warmest
  int32_t oldest = kNone;               // ends of the LRU list of free, committed blocks
  int32_t newest = kNone;
  int cached = 0;  // length of that list
  int64_t births = 0;
  std::vector<New> news;  // scratch of Commit

  explicit Impl(const KvPoolOptions& options)
      : block_tokens(options.block_tokens), prefix_caching(options.prefix_caching) {
    if (options.num_blocks < 0) Die("negative number of blocks:", options.num_blocks, 0);
    if (block_tokens < 1) Die("tokens per block:", block_tokens, 1);
    const size_t count = static_cast<size_t>(options.num_blocks);
    blocks.resize(count);
    plain.reserve(count);
    for (int block = options.num_blocks - 1; block >= 0; --block) plain.push_back(block);
    if (!prefix_caching) return;
    // Left uninitialized: pages of blocks that are never committed are never touched.
    contents.reset(new int32_t[count * static_cast<size_t>(block_tokens)]);
    buckets.assign(PowerOfTwoAtLeast(kBucketsPerBlock * count), kNone);
  }

  int total() const { return static_cast<int>(blocks.size()); }
  Block& at(int32_t id) { return blocks[static_cast<size_t>(id)]; }
  const Block& at(int32_t id) const { return blocks[static_cast<size_t>(id)]; }
  int32_t* content(int32_t id) {
    return contents.get() + static_cast<size_t>(id) * static_cast<size_t>(block_tokens);
  }
  const int32_t* content(int32_t id) const {
    return contents.get() + static_cast<size_t>(id) * static_cast<size_t>(block_tokens);
  }
  absl::Span<const int32_t> TokensOf(absl::Span<const int32_t> tokens, size_t index) const {
    const size_t size = static_cast<size_t>(block_tokens);
    return tokens.subspan(index * size, size);
  }

  void CheckHeld(int32_t id) const {
    if (id < 0 || id >= total()) Die("a block that does not exist:", id, total());
    if (at(id).holders < 1) Die("released twice, or used without holding it: block", id, total());
  }

  // ---- the LRU list

  void PushNewest(int32_t id) {
    Block& block = at(id);
    block.older = newest;
    block.newer = kNone;
    (newest == kNone ? oldest : at(newest).newer) = id;
    newest = id;
    ++cached;
  }

  void RemoveFromLru(int32_t id) {
    const Block& block = at(id);
    (block.older == kNone ? oldest : at(block.older).newer) = block.newer;
    (block.newer == kNone ? newest : at(block.newer).older) = block.older;
    --cached;
  }

  void Hold(int32_t id) {
    if (at(id).holders++ == 0) RemoveFromLru(id);
  }

  // ---- the trees

  // `before`: the hash of the blocks before, or the salt.
  static size_t HashOf(size_t before, absl::Span<const int32_t> tokens) {
    return absl::HashOf(before, tokens);
  }

  int32_t& Bucket(size_t hash) { return buckets[hash & (buckets.size() - 1)]; }

  int32_t Find(uint64_t salt, int32_t parent, absl::Span<const int32_t> tokens, size_t hash) const {
    int32_t id = buckets[hash & (buckets.size() - 1)];
    for (; id != kNone; id = at(id).next_in_bucket) {
      const Block& block = at(id);
      if (block.hash == hash && block.salt == salt && block.parent == parent &&
          std::equal(tokens.begin(), tokens.end(), content(id))) {
        return id;
      }
    }
    return kNone;
  }

  void Link(int32_t id, uint64_t salt, int32_t parent, absl::Span<const int32_t> tokens,
            size_t hash) {
    Block& block = at(id);
    block.committed = true;
    block.canonical = id;
    block.birth = ++births;
    block.salt = salt;
    block.hash = hash;
    std::copy(tokens.begin(), tokens.end(), content(id));
    block.next_in_bucket = Bucket(hash);
    Bucket(hash) = id;
    block.parent = parent;
    block.previous_sibling = kNone;
    block.next_sibling = kNone;
    if (parent == kNone) return;
    block.next_sibling = at(parent).first_child;
    if (block.next_sibling != kNone) at(block.next_sibling).previous_sibling = id;
    at(parent).first_child = id;
  }

  void UnlinkFromBucket(int32_t id) {
    int32_t* link = &Bucket(at(id).hash);
    while (*link != id) link = &at(*link).next_in_bucket;
    *link = at(id).next_in_bucket;
  }

  void UnlinkFromParent(int32_t id) {
    const Block& block = at(id);
    if (block.next_sibling != kNone) {
      at(block.next_sibling).previous_sibling = block.previous_sibling;
    }
    if (block.previous_sibling != kNone) {
      at(block.previous_sibling).next_sibling = block.next_sibling;
    } else if (block.parent != kNone) {
      at(block.parent).first_child = block.next_sibling;
    }
  }

  void ForgetLeaf(int32_t id) {
    UnlinkFromBucket(id);
    UnlinkFromParent(id);
    Block& block = at(id);
    block.committed = false;
    block.canonical = kNone;
    block.birth = 0;  // twins of it look for a new one
    if (block.holders > 0) return;
    RemoveFromLru(id);
    plain.push_back(id);
  }

  // With everything that follows it: what cannot be reached cannot be found.
  void Forget(int32_t root) {
    int32_t id = root;
    while (true) {
      while (at(id).first_child != kNone) id = at(id).first_child;
      const int32_t parent = at(id).parent;
      ForgetLeaf(id);
      if (id == root) return;
      id = parent;
    }
  }

  // ---- what will be needed soon

  void PrefetchBlock(int32_t id) const {
    if (id >= 0 && id < total()) Prefetch(at(id));
  }

  // What the next Forget(oldest) reads: by now the block itself, asked for last time, is here.
  void PrefetchOldest() const {
    if (oldest == kNone) return;
    const Block& block = at(oldest);
    PrefetchBlock(block.newer);
    PrefetchBlock(block.parent);
    Prefetch(buckets[block.hash & (buckets.size() - 1)]);
  }

  // ---- tables

  int32_t TakeFree() {
    if (plain.empty()) {
      Forget(oldest);
      PrefetchOldest();
    } else if (plain.size() > kPrefetchNear) {
      PrefetchBlock(plain[plain.size() - kPrefetchNear]);
    }
    const int32_t id = plain.back();
    plain.pop_back();
    Block& block = at(id);
    block.holders = 1;
    block.canonical = kNone;
    return id;
  }

  // The committed block with the content of `id`, or kNone while that is not known.
  int32_t Canonical(int32_t id) const {
    const Block& block = at(id);
    if (block.committed || block.canonical == kNone) return block.canonical;
    const Block& other = at(block.canonical);
    return other.committed && other.birth == block.birth ? block.canonical : kNone;
  }

  // A chain stays evictable from its end: whatever follows a block has to be older in the list. So
  // tables are given back from their end, and the canonical blocks of twins move along.
  void Release(std::vector<int32_t>* table) {
    for (const int32_t id : *table) PrefetchBlock(id);
    int32_t ancestor = kNone;  // of the block before, among the committed ones
    for (auto id = table->rbegin(); id != table->rend(); ++id) {
      CheckHeld(*id);
      const int32_t canonical = Canonical(*id);
      DropHolder(*id);
      const int32_t used = canonical != kNone ? canonical : ancestor;
      if (used == kNone) continue;
      if (used != *id) MoveToNewest(used);
      ancestor = at(used).parent;
    }
    table->clear();
  }

  void DropHolder(int32_t id) {
    Block& block = at(id);
    if (--block.holders > 0) return;
    if (block.committed) {
      PushNewest(id);
    } else {
      plain.push_back(id);
    }
  }

  void MoveToNewest(int32_t id) {
    if (at(id).holders > 0) return;
    RemoveFromLru(id);
    PushNewest(id);
  }

  // Calls visit(block) for each block of the longest committed chain.
  template <typename Visit>
  void WalkKnown(uint64_t salt, absl::Span<const int32_t> tokens, Visit visit) const {
    if (!prefix_caching || tokens.empty()) return;
    const size_t most = (tokens.size() - 1) / static_cast<size_t>(block_tokens);
    int32_t parent = kNone;
    size_t hash = salt;
    for (size_t i = 0; i < most; ++i) {
      const absl::Span<const int32_t> next = TokensOf(tokens, i);
      hash = HashOf(hash, next);
      parent = Find(salt, parent, next, hash);
      if (parent == kNone) return;
      visit(parent);
    }
  }

  void Commit(absl::Span<const Computed> sequences) {
    for (const Computed& sequence : sequences) {
      const size_t full = FullBlocks(sequence);
      if (full > 0) PrefetchBlock(sequence.table[full - 1]);
      if (full > 1) PrefetchBlock(sequence.table[full - 2]);
    }
    news.clear();
    for (const Computed& sequence : sequences) AppendNew(sequence);
    for (const New& one : news) PrefetchBlock(Bucket(one.hash));
    int32_t parent = kNone;
    for (const New& one : news) {
      if (!one.follows) parent = one.parent;
      parent = CommitBlock(one.id, one.salt, parent, one.tokens, one.hash);
    }
  }

  size_t FullBlocks(const Computed& sequence) const {
    const size_t full = sequence.tokens.size() / static_cast<size_t>(block_tokens);
    if (full > sequence.table.size()) {
      Die("more full blocks than the table holds:", static_cast<int64_t>(full),
          static_cast<int64_t>(sequence.table.size()));
    }
    return full;
  }

  void AppendNew(const Computed& sequence) {
    const size_t full = FullBlocks(sequence);
    size_t known = full;
    while (known > 0 && Canonical(sequence.table[known - 1]) == kNone) --known;
    const int32_t parent = known == 0 ? kNone : Canonical(sequence.table[known - 1]);
    size_t hash = parent == kNone ? sequence.salt : at(parent).hash;
    for (size_t i = known; i < full; ++i) {
      const int32_t id = sequence.table[i];
      const absl::Span<const int32_t> tokens = TokensOf(sequence.tokens, i);
      hash = HashOf(hash, tokens);
      news.push_back({id, parent, i > known, sequence.salt, hash, tokens});
      Prefetch(Bucket(hash));
      __builtin_prefetch(content(id));
    }
  }

  // Returns the committed block with these tokens, now or before.
  int32_t CommitBlock(int32_t id, uint64_t salt, int32_t parent, absl::Span<const int32_t> tokens,
                      size_t hash) {
    CheckHeld(id);
    const int32_t other = Find(salt, parent, tokens, hash);
    if (other == kNone) {
      Link(id, salt, parent, tokens, hash);
      return id;
    }
    at(id).canonical = other;
    at(id).birth = at(other).birth;
    return other;
  }
};

KvPool::KvPool(const KvPoolOptions& options) : impl_(std::make_unique<Impl>(options)) {}
KvPool::~KvPool() = default;

bool KvPool::Grow(int count, std::vector<int32_t>* table) {
  const int missing = count - static_cast<int>(table->size());
  if (missing > free_count()) return false;
  for (int i = 0; i < missing; ++i) table->push_back(impl_->TakeFree());
  return true;
}

void KvPool::Release(std::vector<int32_t>* table) { impl_->Release(table); }

int KvPool::MatchPrefix(uint64_t salt, absl::Span<const int32_t> tokens,
                        std::vector<int32_t>* table) {
  if (!table->empty()) Die("MatchPrefix into a table that holds blocks:", impl_->total(), 0);
  impl_->WalkKnown(salt, tokens, [&](int32_t id) {
    impl_->Hold(id);
    table->push_back(id);
  });
  return static_cast<int>(table->size()) * impl_->block_tokens;
}

int KvPool::PeekPrefix(uint64_t salt, absl::Span<const int32_t> tokens) const {
  int blocks = 0;
  impl_->WalkKnown(salt, tokens, [&](int32_t) { ++blocks; });
  return blocks * impl_->block_tokens;
}

void KvPool::Commit(absl::Span<const Computed> sequences) {
  if (impl_->prefix_caching) impl_->Commit(sequences);
}

void KvPool::Commit(uint64_t salt, absl::Span<const int32_t> tokens,
                    absl::Span<const int32_t> table) {
  const Computed sequence{salt, tokens, table};
  Commit(absl::MakeConstSpan(&sequence, 1));
}

std::vector<int32_t> KvPool::Fork(const std::vector<int32_t>& table) {
  for (const int32_t id : table) {
    impl_->CheckHeld(id);
    ++impl_->at(id).holders;
  }
  return table;
}

KvPool::CopyResult KvPool::CopyOnWrite(int index, std::vector<int32_t>* table) {
  if (index < 0 || index >= static_cast<int>(table->size())) {
    Die("CopyOnWrite outside the table: index", index, static_cast<int64_t>(table->size()));
  }
  int32_t& entry = (*table)[static_cast<size_t>(index)];
  impl_->CheckHeld(entry);
  Impl::Block& block = impl_->at(entry);
  if (block.holders == 1) {
    // The content is about to change and nobody else holds it: nothing worth a copy is lost.
    if (block.committed) impl_->Forget(entry);
    block.canonical = kNone;
    return {};
  }
  if (free_count() == 0) return {.ok = false, .copy = std::nullopt};
  const KvBlockCopy copy{.source = entry, .destination = impl_->TakeFree()};
  --impl_->at(copy.source).holders;
  entry = copy.destination;
  return {.ok = true, .copy = copy};
}

void KvPool::ForgetContents() {
  for (int32_t id = 0; id < impl_->total(); ++id) {
    impl_->at(id).canonical = impl_->at(id).committed ? id : kNone;
    if (impl_->at(id).committed) impl_->Forget(id);
  }
}

int KvPool::free_count() const { return static_cast<int>(impl_->plain.size()) + impl_->cached; }
int KvPool::cached_count() const { return impl_->cached; }
int KvPool::total() const { return impl_->total(); }

}  // namespace tessera::coordinator
