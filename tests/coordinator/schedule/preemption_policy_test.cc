#include "coordinator/schedule/preemption_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::MadeRequest;
using tessera::testing::Prompt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Blocks of four tokens.
class PreemptionPolicyTest : public ::testing::Test {
 protected:
  PreemptionPolicyTest(SchedulingPolicy policy, int blocks, int slots)
      : cache_({.block_tokens = 4, .num_blocks = blocks}), table_({.policy = policy}, slots) {}
  PreemptionPolicyTest() : PreemptionPolicyTest(SchedulingPolicy::kFcfs, 4, 8) {}

  void Run(MadeRequest* request) {
    Sequence* sequence = request->sequence();
    table_.Enqueue(sequence);
    ASSERT_TRUE(cache_.TakePrefix(sequence, &plan_));
    table_.Start(sequence);
    ASSERT_TRUE(cache_.Grow(sequence->known(), sequence));
    request->Decodes();
  }

  v1::StepPlan plan_;
  KvCacheManager cache_;
  SequenceTable table_;
  PreemptionPolicy preemption_{&cache_, &table_};
  const int a_ = table_.tenants().TenantIndex("a");
  const int b_ = table_.tenants().TenantIndex("b");
};

TEST_F(PreemptionPolicyTest, TheLastInRankGivesItsBlocksUp) {
  MadeRequest first(1, Prompt(1, 4), a_);
  MadeRequest second(2, Prompt(2, 4), a_);
  MadeRequest third(3, Prompt(3, 8), a_);
  for (MadeRequest* request : {&first, &second, &third}) Run(request);
  cache_.Reserve(third.sequence());
  EXPECT_EQ(third.sequence()->reserved_blocks, 1);
  EXPECT_TRUE(preemption_.GrowOrPreempt(5, first.sequence()));
  EXPECT_EQ(preemption_.preemptions(), 1);
  EXPECT_EQ(third.sequence()->state, Sequence::State::kWaiting);
  EXPECT_EQ(third.sequence()->computed, 0);
  EXPECT_EQ(third.sequence()->reserved_blocks, 0);
  EXPECT_THAT(third.sequence()->blocks, IsEmpty());
  EXPECT_THAT(table_.running(), ElementsAre(first.sequence(), second.sequence()));
}

TEST_F(PreemptionPolicyTest, NobodyPreemptsWhoRanksBefore) {
  MadeRequest first(1, Prompt(1, 8), a_);
  MadeRequest second(2, Prompt(2, 8), a_);
  Run(&first);
  Run(&second);
  EXPECT_FALSE(preemption_.GrowOrPreempt(9, second.sequence()));
  EXPECT_EQ(preemption_.preemptions(), 0);
  EXPECT_TRUE(preemption_.GrowOrPreempt(8, second.sequence())) << "it has the blocks for that";
}

TEST_F(PreemptionPolicyTest, AVictimInFlightIsMarkedOneAtATime) {
  MadeRequest first(1, Prompt(1, 4), a_);
  MadeRequest second(2, Prompt(2, 4), a_);
  MadeRequest third(3, Prompt(3, 8), a_);
  for (MadeRequest* request : {&first, &second, &third}) Run(request);
  second.sequence()->in_flight = third.sequence()->in_flight = 1;
  EXPECT_FALSE(preemption_.GrowOrPreempt(5, first.sequence()));
  EXPECT_FALSE(preemption_.GrowOrPreempt(5, first.sequence()));
  EXPECT_THAT(table_.victims(), ElementsAre(third.sequence()));
  EXPECT_EQ(preemption_.preemptions(), 0);
  EXPECT_EQ(third.sequence()->blocks.size(), 2u) << "a step still writes them";
}

TEST_F(PreemptionPolicyTest, TheTenantFurthestAboveItsSharePays) {
  MadeRequest one(1, Prompt(1, 4), a_);
  MadeRequest two(2, Prompt(2, 4), a_);
  MadeRequest three(3, Prompt(3, 4), a_);
  MadeRequest other(4, Prompt(4, 4), b_);
  SequenceTable few({}, 2);
  ASSERT_EQ(few.tenants().TenantIndex("a"), a_);
  ASSERT_EQ(few.tenants().TenantIndex("b"), b_);
  PreemptionPolicy preemption(&cache_, &few);
  for (MadeRequest* request : {&one, &two, &three, &other}) {
    few.Enqueue(request->sequence());
    few.Start(request->sequence());
    ASSERT_TRUE(cache_.Grow(4, request->sequence()));
    request->Decodes();
  }
  EXPECT_TRUE(preemption.GrowOrPreempt(5, other.sequence())) << "though it is the last in rank";
  EXPECT_EQ(three.sequence()->state, Sequence::State::kWaiting);
}

class PriorityPreemptionTest : public PreemptionPolicyTest {
 protected:
  PriorityPreemptionTest() : PreemptionPolicyTest(SchedulingPolicy::kPriority, 16, 2) {}
};

TEST_F(PriorityPreemptionTest, ABetterPriorityIsTheBeneficiary) {
  MadeRequest good(1, Prompt(1, 4), a_, /*priority=*/1);
  MadeRequest bad(2, Prompt(2, 4), a_, /*priority=*/5);
  Run(&good);
  Run(&bad);
  MadeRequest best(3, Prompt(3, 4), a_, /*priority=*/0);
  table_.Enqueue(best.sequence());
  preemption_.MakeRoomForWaiting();
  EXPECT_EQ(preemption_.beneficiary(), best.sequence());
  EXPECT_THAT(table_.running(), ElementsAre(good.sequence()));
  preemption_.MakeRoomForWaiting();
  EXPECT_EQ(preemption_.preemptions(), 1) << "there is room now";
  table_.Start(best.sequence());
  preemption_.StopsWaiting(*best.sequence());
  EXPECT_EQ(preemption_.beneficiary(), nullptr);
}

TEST_F(PriorityPreemptionTest, AnEqualOneIsNot) {
  MadeRequest one(1, Prompt(1, 4), a_, /*priority=*/1);
  MadeRequest two(2, Prompt(2, 4), a_, /*priority=*/1);
  Run(&one);
  Run(&two);
  MadeRequest three(3, Prompt(3, 4), a_, /*priority=*/1);
  table_.Enqueue(three.sequence());
  preemption_.MakeRoomForWaiting();
  EXPECT_EQ(preemption_.beneficiary(), nullptr);
  EXPECT_EQ(preemption_.preemptions(), 0);
}

}  // namespace
}  // namespace tessera::coordinator
