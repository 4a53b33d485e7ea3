#include "coordinator/schedule/kv_pool.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "gtest/gtest.h"

namespace tessera::coordinator {
namespace {

using Tokens = std::vector<int32_t>;
using Table = std::vector<int32_t>;

constexpr uint64_t kSalt = 7;

Tokens Count(int n, int32_t first = 0) {
  Tokens tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// As a request does it: match what is known, compute the rest, commit. False: out of blocks.
bool Compute(KvPool& pool, uint64_t salt, const Tokens& tokens, int block_tokens, Table* table) {
  pool.MatchPrefix(salt, tokens, table);
  const int blocks = (static_cast<int>(tokens.size()) + block_tokens - 1) / block_tokens;
  if (!pool.Grow(blocks, table)) {
    pool.Release(table);
    return false;
  }
  pool.Commit(salt, tokens, *table);
  return true;
}

TEST(KvPoolTest, GrowsToACountOrNotAtAll) {
  KvPool pool({.num_blocks = 4});
  Table table;
  EXPECT_TRUE(pool.Grow(3, &table));
  EXPECT_EQ(std::set<int32_t>(table.begin(), table.end()).size(), 3u);
  EXPECT_EQ(pool.free_count(), 1);
  EXPECT_TRUE(pool.Grow(2, &table));  // has more already
  EXPECT_EQ(table.size(), 3u);
  EXPECT_FALSE(pool.Grow(5, &table));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_EQ(pool.free_count(), 1);
  pool.Release(&table);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free_count(), 4);
  EXPECT_EQ(pool.total(), 4);
}

TEST(KvPoolTest, APoolWithoutBlocksHoldsNothing) {
  KvPool pool({.num_blocks = 0});
  Table table;
  EXPECT_TRUE(pool.Grow(0, &table));
  EXPECT_FALSE(pool.Grow(1, &table));
  EXPECT_EQ(pool.MatchPrefix(kSalt, Count(100), &table), 0);
}

TEST(KvPoolTest, ASharedPrefixIsHeldTwiceAndComputedOnce) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4});
  const Tokens tokens = Count(11);
  Table first;
  ASSERT_TRUE(Compute(pool, kSalt, tokens, 4, &first));
  Table second;
  EXPECT_EQ(pool.PeekPrefix(kSalt, tokens), 8);
  EXPECT_EQ(pool.MatchPrefix(kSalt, tokens, &second), 8);
  EXPECT_EQ(second, Table(first.begin(), first.begin() + 2));
  EXPECT_EQ(pool.free_count(), 7);
  pool.Release(&first);
  EXPECT_EQ(pool.free_count(), 8);  // two are still held
  EXPECT_EQ(pool.cached_count(), 0);
  pool.Release(&second);
  EXPECT_EQ(pool.free_count(), 10);
  EXPECT_EQ(pool.cached_count(), 2);
}

TEST(KvPoolTest, TheLastTokenIsAlwaysLeftToCompute) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(8), 4, &table));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(8)), 4);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 8);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(5)), 4);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(4)), 0);
  EXPECT_EQ(pool.PeekPrefix(kSalt, {}), 0);
  pool.Release(&table);
}

TEST(KvPoolTest, ADifferenceAnywhereBeforeEndsTheMatch) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(12), 4, &table));
  for (const auto& [changed, known] : std::map<size_t, int>{{0, 0}, {3, 0}, {4, 4}, {11, 8}}) {
    Tokens tokens = Count(13);
    tokens[changed] = 999;
    EXPECT_EQ(pool.PeekPrefix(kSalt, tokens), known) << changed;
  }
  // The second block's tokens without the first's before them.
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 4)), 0);
  pool.Release(&table);
}

TEST(KvPoolTest, SaltsKeepTenantsApart) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4});
  Table mine;
  ASSERT_TRUE(Compute(pool, 1, Count(9), 4, &mine));
  EXPECT_EQ(pool.PeekPrefix(1, Count(9)), 8);
  EXPECT_EQ(pool.PeekPrefix(2, Count(9)), 0);
  Table theirs;
  ASSERT_TRUE(Compute(pool, 2, Count(9), 4, &theirs));
  EXPECT_NE(mine[0], theirs[0]);
  pool.Release(&mine);
  pool.Release(&theirs);
  EXPECT_EQ(pool.cached_count(), 4);
}

// 5,000 chains that differ in one token each hang in a table of few buckets: equal hashes (modulo
// the table) are met all the time, and only the tokens tell them apart.
TEST(KvPoolTest, AMatchIsByTokensNotByHash) {
  KvPool pool({.num_blocks = 5000, .block_tokens = 1});
  std::vector<Table> tables(5000);
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(pool.Grow(1, &tables[static_cast<size_t>(i)]));
    pool.Commit(kSalt, {i}, tables[static_cast<size_t>(i)]);
  }
  for (int i = 0; i < 5000; ++i) {
    Table found;
    ASSERT_EQ(pool.MatchPrefix(kSalt, {i, 0}, &found), 1);
    EXPECT_EQ(found, tables[static_cast<size_t>(i)]);
    EXPECT_EQ(pool.PeekPrefix(kSalt, {i + 5000, 0}), 0);
    pool.Release(&found);
  }
  for (Table& table : tables) pool.Release(&table);
}

TEST(KvPoolTest, WithoutCachingNothingIsFound) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4, .prefix_caching = false});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(9), 4, &table));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 0);
  pool.Release(&table);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 0);
  EXPECT_EQ(pool.cached_count(), 0);
  EXPECT_EQ(pool.free_count(), 10);
}

TEST(KvPoolTest, PublishingGoesOnWhereItStopped) {
  KvPool pool({.num_blocks = 10, .block_tokens = 4});
  Table table;
  Tokens tokens;
  for (int32_t i = 0; i < 40; ++i) {  // as decodes do
    ASSERT_TRUE(pool.Grow(i / 4 + 1, &table));
    tokens.push_back(i * 3);
    pool.Commit(kSalt, tokens, table);
    Tokens next = tokens;
    next.push_back(-1);
    EXPECT_EQ(pool.PeekPrefix(kSalt, next), (i + 1) / 4 * 4);
  }
  pool.Release(&table);
  EXPECT_EQ(pool.cached_count(), 10);
}

// ---- room ---------------------------------------------------------------------------------------

TEST(KvPoolTest, TheEndsOfChainsGoFirst) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(16), 4, &table));
  pool.Release(&table);
  Table other;
  for (int held = 1; held <= 4; ++held) {
    ASSERT_TRUE(pool.Grow(held, &other));
    EXPECT_EQ(pool.PeekPrefix(kSalt, Count(17)), 16 - 4 * held);
  }
  pool.Release(&other);
}

TEST(KvPoolTest, TheLeastRecentlyUsedChainGoesFirst) {
  KvPool pool({.num_blocks = 6, .block_tokens = 4});
  Table table;
  for (const int32_t first : {100, 200, 300}) {
    ASSERT_TRUE(Compute(pool, kSalt, Count(8, first), 4, &table));
    pool.Release(&table);
  }
  EXPECT_EQ(pool.MatchPrefix(kSalt, Count(9, 100), &table), 8);  // used again
  pool.Release(&table);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 200)), 8);  // only asked for: no use
  ASSERT_TRUE(pool.Grow(3, &table));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 100)), 8);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 200)), 0);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 300)), 4);
  pool.Release(&table);
}

TEST(KvPoolTest, BlocksWithoutContentGoBeforeCommittedOnes) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(8), 4, &table));
  pool.Release(&table);
  ASSERT_TRUE(pool.Grow(2, &table));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 8);
  pool.Release(&table);
}

TEST(KvPoolTest, WhatIsHeldIsNeverEvicted) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table held;
  ASSERT_TRUE(Compute(pool, kSalt, Count(8), 4, &held));
  Table other;
  EXPECT_FALSE(pool.Grow(3, &other));
  ASSERT_TRUE(pool.Grow(2, &other));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 8);
  pool.Release(&other);
  pool.Release(&held);
}

// Two requests computed the same prompt side by side, and one of them went on. Its end hangs behind
// the other's blocks, which nobody holds any more: using the end is using them.
TEST(KvPoolTest, TwinsKeepTheirChainAlive) {
  KvPool pool({.num_blocks = 8, .block_tokens = 4});
  Table first;
  Table twin;
  ASSERT_TRUE(pool.Grow(2, &first));
  ASSERT_TRUE(pool.Grow(2, &twin));
  pool.Commit(kSalt, Count(8), first);
  pool.Commit(kSalt, Count(8), twin);  // stays its holder's own
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 8);
  pool.Release(&first);
  EXPECT_EQ(pool.cached_count(), 2);
  ASSERT_TRUE(pool.Grow(3, &twin));
  pool.Commit(kSalt, Count(12), twin);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(13)), 12);
  Table other;
  ASSERT_TRUE(Compute(pool, kSalt, Count(4, 500), 4, &other));
  pool.Release(&other);
  pool.Release(&twin);  // later than `other`, and so are the blocks its end hangs on
  EXPECT_EQ(pool.cached_count(), 4);
  ASSERT_TRUE(pool.Grow(5, &other));
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(5, 500)), 0);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(13)), 12);
  pool.Release(&other);
}

// The committed ones of two twins were evicted while the other twin is still held: its own blocks
// take their place with the next Commit.
TEST(KvPoolTest, ATwinTakesThePlaceOfAnEvictedOne) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table first;
  Table twin;
  ASSERT_TRUE(pool.Grow(1, &first));
  ASSERT_TRUE(pool.Grow(1, &twin));
  pool.Commit(kSalt, Count(4), first);
  pool.Commit(kSalt, Count(4), twin);
  pool.Release(&first);
  Table other;
  ASSERT_TRUE(pool.Grow(3, &other));  // all others: evicts
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(5)), 0);
  pool.Commit(kSalt, Count(4), twin);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(5)), 4);
  pool.Release(&other);
  pool.Release(&twin);
  EXPECT_EQ(pool.cached_count(), 1);
}

TEST(KvPoolTest, AfterTheGroupIsGoneNothingIsFound) {
  KvPool pool({.num_blocks = 6, .block_tokens = 4});
  Table held;
  Table released;
  ASSERT_TRUE(Compute(pool, kSalt, Count(8), 4, &held));
  ASSERT_TRUE(Compute(pool, kSalt, Count(8, 50), 4, &released));
  pool.Release(&released);
  pool.ForgetContents();
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 0);
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9, 50)), 0);
  EXPECT_EQ(pool.cached_count(), 0);
  EXPECT_EQ(pool.free_count(), 4);
  pool.Release(&held);
  EXPECT_EQ(pool.free_count(), 6);
}

// ---- sharing and copy on write ------------------------------------------------------------------

TEST(KvPoolTest, AnOwnBlockNeedsNoCopy) {
  KvPool pool({.num_blocks = 1, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(pool.Grow(1, &table));
  const KvPool::CopyResult own = pool.CopyOnWrite(0, &table);
  EXPECT_TRUE(own.ok);
  EXPECT_FALSE(own.copy.has_value());
  pool.Release(&table);
}

TEST(KvPoolTest, ASharedBlockIsCopiedByAllButTheLastHolder) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table first;
  ASSERT_TRUE(pool.Grow(2, &first));
  Table second = pool.Fork(first);
  EXPECT_EQ(second, first);
  EXPECT_EQ(pool.free_count(), 2);
  const int32_t shared = first[1];
  const KvPool::CopyResult own = pool.CopyOnWrite(1, &second);
  ASSERT_TRUE(own.ok);
  ASSERT_TRUE(own.copy.has_value());
  EXPECT_EQ(own.copy->source, shared);
  EXPECT_EQ(own.copy->destination, second[1]);
  EXPECT_NE(second[1], shared);
  EXPECT_EQ(first[1], shared);
  EXPECT_FALSE(pool.CopyOnWrite(1, &first).copy.has_value());  // alone with it now
  pool.Release(&first);
  EXPECT_EQ(pool.free_count(), 2);  // second holds block 0 and its copy
  pool.Release(&second);
  EXPECT_EQ(pool.free_count(), 4);
}

TEST(KvPoolTest, WithoutAFreeBlockThereIsNoCopy) {
  KvPool pool({.num_blocks = 1, .block_tokens = 4});
  Table first;
  ASSERT_TRUE(pool.Grow(1, &first));
  Table second = pool.Fork(first);
  EXPECT_FALSE(pool.CopyOnWrite(0, &second).ok);
  EXPECT_EQ(second, first);
  pool.Release(&first);
  EXPECT_TRUE(pool.CopyOnWrite(0, &second).ok);
  pool.Release(&second);
  EXPECT_EQ(pool.free_count(), 1);
}

TEST(KvPoolTest, ACommittedBlockThatIsWrittenAgainIsNoLongerFound) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(12), 4, &table));
  const KvPool::CopyResult own = pool.CopyOnWrite(1, &table);
  EXPECT_TRUE(own.ok);
  EXPECT_FALSE(own.copy.has_value());
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(13)), 4);  // nor is what followed it
  pool.Release(&table);
  EXPECT_EQ(pool.cached_count(), 1);
}

TEST(KvPoolTest, ASharedCommittedBlockStaysFindableWhenOneHolderWrites) {
  KvPool pool({.num_blocks = 4, .block_tokens = 4});
  Table first;
  ASSERT_TRUE(Compute(pool, kSalt, Count(8), 4, &first));
  Table second = pool.Fork(first);
  ASSERT_TRUE(pool.CopyOnWrite(1, &second).copy.has_value());
  EXPECT_EQ(pool.PeekPrefix(kSalt, Count(9)), 8);
  pool.Release(&first);
  pool.Release(&second);
  EXPECT_EQ(pool.free_count(), 4);
}

// ---- broken invariants --------------------------------------------------------------------------

TEST(KvPoolDeathTest, ReleasingTwiceAborts) {
  KvPool pool({.num_blocks = 2});
  Table table;
  ASSERT_TRUE(pool.Grow(1, &table));
  Table again = table;
  pool.Release(&table);
  EXPECT_DEATH(pool.Release(&again), "released twice");
}

TEST(KvPoolDeathTest, ReleasingAMatchedBlockTwiceAborts) {
  KvPool pool({.num_blocks = 2, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(Compute(pool, kSalt, Count(4), 4, &table));
  Table again = table;
  pool.Release(&table);
  EXPECT_DEATH(pool.Release(&again), "released twice");
}

TEST(KvPoolDeathTest, ABlockThatDoesNotExistAborts) {
  KvPool pool({.num_blocks = 2});
  Table table = {2};
  EXPECT_DEATH(pool.Release(&table), "does not exist");
  table = {-1};
  EXPECT_DEATH(pool.Release(&table), "does not exist");
}

TEST(KvPoolDeathTest, PublishingMoreThanTheTableHoldsAborts) {
  KvPool pool({.num_blocks = 2, .block_tokens = 4});
  Table table;
  ASSERT_TRUE(pool.Grow(1, &table));
  EXPECT_DEATH(pool.Commit(kSalt, Count(8), table), "more full blocks");
}

// ---- random runs against a model ----------------------------------------------------------------

// What a block's keys and values were computed from: the salt and all tokens up to its end.
struct Content {
  uint64_t salt = 0;
  Tokens tokens;
  bool operator==(const Content&) const = default;
};

class RandomRun {
 public:
  RandomRun(unsigned seed, int num_blocks, bool may_evict)
      : random_(seed),
        may_evict_(may_evict),
        pool_({.num_blocks = num_blocks, .block_tokens = kBlock}) {}

  void Step() {
    switch (Below(8)) {
      case 0:
      case 1:
        return Arrive();
      case 2:
        return Fork();
      case 3:
      case 4:
      case 5:
        return Decode();
      default:
        return Leave();
    }
  }

  void CheckCounts() {
    std::set<int32_t> held;
    for (const Sequence& sequence : live_)
      held.insert(sequence.table.begin(), sequence.table.end());
    ASSERT_EQ(pool_.free_count(), pool_.total() - static_cast<int>(held.size()));
    ASSERT_LE(pool_.cached_count(), pool_.free_count());
  }

  void End() {
    while (!live_.empty()) Leave();
    EXPECT_EQ(pool_.free_count(), pool_.total());
  }

  int matched() const { return matched_; }

 private:
  static constexpr int kBlock = 3;

  struct Sequence {
    uint64_t salt = 0;
    Tokens tokens;  // all computed
    Table table;
  };

  int Below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  void Write(const Sequence& sequence, size_t first_block) {
    for (size_t i = first_block; i < sequence.table.size(); ++i) {
      const size_t end = std::min(sequence.tokens.size(), (i + 1) * kBlock);
      contents_[sequence.table[i]] = {
          sequence.salt, Tokens(sequence.tokens.begin(),
                                sequence.tokens.begin() + static_cast<std::ptrdiff_t>(end))};
    }
  }

  void Commit(const Sequence& sequence) {
    pool_.Commit(sequence.salt, sequence.tokens, sequence.table);
    for (size_t end = kBlock; end <= sequence.tokens.size(); end += kBlock) {
      committed_.insert(
          {sequence.salt, Tokens(sequence.tokens.begin(),
                                 sequence.tokens.begin() + static_cast<std::ptrdiff_t>(end))});
    }
  }

  int Known(uint64_t salt, const Tokens& tokens) const {
    size_t end = 0;
    while (end + kBlock < tokens.size() &&
           committed_.count(
               {salt, Tokens(tokens.begin(),
                             tokens.begin() + static_cast<std::ptrdiff_t>(end + kBlock))}) > 0) {
      end += kBlock;
    }
    return static_cast<int>(end);
  }

  // Few different tokens, so that prompts share beginnings.
  void Arrive() {
    Sequence sequence;
    sequence.salt = static_cast<uint64_t>(Below(2));
    const int length = 1 + Below(20);
    for (int i = 0; i < length; ++i) sequence.tokens.push_back(Below(5) == 0 ? 1 : 0);
    const int match = pool_.PeekPrefix(sequence.salt, sequence.tokens);
    const int known = pool_.MatchPrefix(sequence.salt, sequence.tokens, &sequence.table);
    ASSERT_EQ(known, match);
    ASSERT_EQ(known, static_cast<int>(sequence.table.size()) * kBlock);
    ASSERT_LT(known, length);
    if (!may_evict_) {
      ASSERT_EQ(known, Known(sequence.salt, sequence.tokens));
    }
    for (int i = 0; i < known / kBlock; ++i) {
      const Content expected = {sequence.salt, Tokens(sequence.tokens.begin(),
                                                      sequence.tokens.begin() + (i + 1) * kBlock)};
      ASSERT_EQ(contents_[sequence.table[static_cast<size_t>(i)]], expected);
    }
    if (!pool_.Grow((length + kBlock - 1) / kBlock, &sequence.table)) {
      return pool_.Release(&sequence.table);
    }
    matched_ += known;
    Write(sequence, static_cast<size_t>(known / kBlock));
    if (Below(4) > 0) Commit(sequence);
    live_.push_back(std::move(sequence));
  }

  void Fork() {
    if (live_.empty()) return;
    Sequence copy = live_[static_cast<size_t>(Below(static_cast<int>(live_.size())))];
    copy.table = pool_.Fork(copy.table);
    live_.push_back(std::move(copy));
  }

  void Decode() {
    if (live_.empty()) return;
    Sequence& sequence = live_[static_cast<size_t>(Below(static_cast<int>(live_.size())))];
    const int position = static_cast<int>(sequence.tokens.size());
    const int index = position / kBlock;
    if (index == static_cast<int>(sequence.table.size())) {
      if (!pool_.Grow(index + 1, &sequence.table)) return;
    } else {
      const KvPool::CopyResult own = pool_.CopyOnWrite(index, &sequence.table);
      if (!own.ok) return;
      if (own.copy) contents_[own.copy->destination] = contents_[own.copy->source];
    }
    sequence.tokens.push_back(Below(3));
    Write(sequence, static_cast<size_t>(index));
    Commit(sequence);
  }

  void Leave() {
    if (live_.empty()) return;
    const size_t i = static_cast<size_t>(Below(static_cast<int>(live_.size())));
    pool_.Release(&live_[i].table);
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  struct ContentOrder {
    bool operator()(const Content& a, const Content& b) const {
      return std::tie(a.salt, a.tokens) < std::tie(b.salt, b.tokens);
    }
  };

  std::mt19937 random_;
  const bool may_evict_;
  KvPool pool_;
  std::vector<Sequence> live_;
  std::map<int32_t, Content> contents_;        // by block, as the workers would hold it
  std::set<Content, ContentOrder> committed_;  // ever
  int matched_ = 0;
};

TEST(KvPoolRandomTest, WithRoomForEverythingAllThatWasCommittedIsFound) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    RandomRun run(seed, 20000, false);
    for (int i = 0; i < 3000; ++i) {
      run.Step();
      if (::testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << " step " << i;
    }
    run.CheckCounts();
    EXPECT_GT(run.matched(), 100);
    run.End();
  }
}

TEST(KvPoolRandomTest, UnderPressureEveryMatchedBlockHoldsWhatItShould) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    RandomRun run(seed, 5 + static_cast<int>(seed) * 5, true);
    for (int i = 0; i < 10000; ++i) {
      run.Step();
      if (i % 10 == 0) run.CheckCounts();
      if (::testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << " step " << i;
    }
    EXPECT_GT(run.matched(), 0);
    run.End();
  }
}

}  // namespace
}  // namespace tessera::coordinator
