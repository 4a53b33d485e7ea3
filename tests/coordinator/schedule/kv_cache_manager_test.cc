#include "coordinator/schedule/kv_cache_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::MadeRequest;
using tessera::testing::Prompt;

class KvCacheManagerTest : public ::testing::Test {
 protected:
  // Takes blocks for all it knows, computes that and lets it be found.
  void Compute(MadeRequest* request) {
    Sequence* sequence = request->sequence();
    ASSERT_TRUE(cache_.TakePrefix(sequence, &plan_));
    ASSERT_TRUE(cache_.Grow(sequence->known(), sequence));
    sequence->state = Sequence::State::kRunning;
    sequence->computed = sequence->sent = sequence->known();
    cache_.Commit(*sequence);
  }

  KvCacheManager cache_{{.block_tokens = 4, .num_blocks = 8}};
  v1::StepPlan plan_;
  MadeRequest first_{1, Prompt(1, 14)};
};

TEST_F(KvCacheManagerTest, ReservedBlocksAreNotSpare) {
  EXPECT_EQ(cache_.BlocksFor(14), 4);
  ASSERT_TRUE(cache_.TakePrefix(first_.sequence(), &plan_));
  cache_.Reserve(first_.sequence());
  EXPECT_EQ(cache_.free_blocks(), 8);
  EXPECT_EQ(cache_.spare_blocks(), 4);
  ASSERT_TRUE(cache_.Grow(6, first_.sequence()));
  EXPECT_EQ(first_.sequence()->blocks.size(), 2u);
  EXPECT_EQ(first_.sequence()->reserved_blocks, 2);
  EXPECT_EQ(cache_.free_blocks(), 6);
  EXPECT_EQ(cache_.spare_blocks(), 4);
  EXPECT_EQ(cache_.MostTokens(*first_.sequence()), 32);
  cache_.Unreserve(first_.sequence());
  cache_.Release(first_.sequence());
  EXPECT_EQ(cache_.spare_blocks(), 8);
}

TEST_F(KvCacheManagerTest, WhatIsReservedForAnotherCannotBeStartedOn) {
  ASSERT_TRUE(cache_.TakePrefix(first_.sequence(), &plan_));
  cache_.Reserve(first_.sequence());
  MadeRequest second(2, Prompt(2, 17));
  EXPECT_FALSE(cache_.TakePrefix(second.sequence(), &plan_)) << "five blocks, and four are spare";
  EXPECT_TRUE(second.sequence()->blocks.empty());
  MadeRequest third(3, Prompt(3, 16));
  EXPECT_TRUE(cache_.TakePrefix(third.sequence(), &plan_));
}

TEST_F(KvCacheManagerTest, ACommittedPrefixIsMatchedAndCounted) {
  Compute(&first_);
  MadeRequest second(2, Prompt(1, 14));
  EXPECT_EQ(cache_.CountCached(*second.state()), 12);
  EXPECT_EQ(cache_.BlocksNeeded(*second.sequence()), 1) << "the other three are held already";
  EXPECT_EQ(cache_.free_blocks(), 4);
  ASSERT_TRUE(cache_.TakePrefix(second.sequence(), &plan_));
  EXPECT_EQ(second.sequence()->computed, 12);
  EXPECT_EQ(second.state()->cached_tokens, 12);
  EXPECT_EQ(cache_.prefix_queries(), 28);
  EXPECT_EQ(cache_.prefix_hits(), 12);
  cache_.ForgetContents();
  EXPECT_EQ(cache_.CountCached(*second.state()), 0);
}

TEST_F(KvCacheManagerTest, APrefixNobodyHoldsCountsAsNeeded) {
  Compute(&first_);
  cache_.Release(first_.sequence());
  MadeRequest second(2, Prompt(1, 14));
  EXPECT_EQ(cache_.BlocksNeeded(*second.sequence()), 4);
  EXPECT_EQ(cache_.free_blocks(), 8) << "nothing was taken";
}

TEST_F(KvCacheManagerTest, AnotherChoiceForksThePromptAndCopiesTheBlockItWrites) {
  first_.state()->choices.resize(2);
  Compute(&first_);
  Sequence* one = &first_.state()->choices[0];
  Sequence* other = &first_.state()->choices[1];
  other->id = 2;
  other->choice = 1;
  other->request = first_.state();
  other->tokens = one->tokens;
  ASSERT_TRUE(cache_.TakePrefix(other, &plan_));
  EXPECT_EQ(other->computed, 13) << "the last prompt token is computed again";
  EXPECT_EQ(other->blocks[2], one->blocks[2]);
  EXPECT_NE(other->blocks[3], one->blocks[3]);
  ASSERT_EQ(plan_.copies_size(), 1);
  EXPECT_EQ(plan_.copies(0).source(), one->blocks[3]);
  EXPECT_EQ(plan_.copies(0).destination(), other->blocks[3]);
}

}  // namespace
}  // namespace tessera::coordinator
