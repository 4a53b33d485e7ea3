#include "coordinator/schedule/sequence_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/slot_shares.h"
#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::MadeRequest;
using tessera::testing::Prompt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SequenceTableTest, WaitsThenRunsThenIsGone) {
  SequenceTable table({}, 1);
  const int tenant = table.tenants().TenantIndex("a");
  MadeRequest first(1, Prompt(1, 5), tenant);
  MadeRequest second(2, Prompt(2, 3), tenant);
  table.Enqueue(second.sequence());
  table.Enqueue(first.sequence());
  EXPECT_EQ(table.waiting(), 2u);
  EXPECT_EQ(table.waiting_tokens(), 8);
  EXPECT_EQ(table.Front(), first.sequence()) << "by arrival, which is the id";
  EXPECT_EQ(first.sequence()->state, Sequence::State::kWaiting);

  table.Start(first.sequence());
  EXPECT_EQ(first.sequence()->state, Sequence::State::kRunning);
  EXPECT_EQ(table.FindWaiting(1), nullptr);
  EXPECT_EQ(table.waiting_tokens(), 3);
  EXPECT_EQ(table.running_requests(), 1);
  EXPECT_FALSE(table.HasFreeSlot());
  EXPECT_EQ(table.tenants().running(tenant), 1);

  table.Drop(first.sequence());
  table.Drop(second.sequence());
  EXPECT_EQ(table.waiting(), 0u);
  EXPECT_EQ(table.Front(), nullptr);
  EXPECT_EQ(table.FrontOf(tenant), nullptr);
  EXPECT_EQ(table.running_requests(), 0);
  EXPECT_TRUE(table.HasFreeSlot());
  EXPECT_EQ(table.tenants().running(tenant), 0);
}

TEST(SequenceTableTest, RunningOnesStandInTheOrderOfRank) {
  for (const auto policy : {SchedulingPolicy::kFcfs, SchedulingPolicy::kPriority}) {
    SequenceTable table({.policy = policy}, 8);
    const int tenant = table.tenants().TenantIndex("a");
    MadeRequest first(1, Prompt(1, 5), tenant, /*priority=*/9);
    MadeRequest second(2, Prompt(2, 5), tenant, /*priority=*/0);
    MadeRequest third(3, Prompt(3, 5), tenant, /*priority=*/0);
    for (MadeRequest* request : {&third, &first, &second}) {
      table.Enqueue(request->sequence());
      table.Start(request->sequence());
    }
    if (policy == SchedulingPolicy::kFcfs) {
      EXPECT_THAT(table.running(),
                  ElementsAre(first.sequence(), second.sequence(), third.sequence()));
    } else {
      EXPECT_THAT(table.running(),
                  ElementsAre(second.sequence(), third.sequence(), first.sequence()));
    }
  }
}

TEST(SequenceTableTest, AVictimHoldsNoSlotAndWaitsAgain) {
  SequenceTable table({}, 1);
  const int tenant = table.tenants().TenantIndex("a");
  MadeRequest first(1, Prompt(1, 5), tenant);
  first.state()->needs_last_token = true;
  table.Enqueue(first.sequence());
  table.Start(first.sequence());
  EXPECT_TRUE(table.AnyNeedsLastToken());
  table.MarkVictim(first.sequence());
  EXPECT_TRUE(table.HasFreeSlot());
  EXPECT_THAT(table.victims(), ElementsAre(first.sequence()));
  table.Requeue(first.sequence());
  EXPECT_THAT(table.victims(), IsEmpty());
  EXPECT_FALSE(first.sequence()->victim);
  EXPECT_THAT(table.running(), IsEmpty());
  EXPECT_FALSE(table.AnyNeedsLastToken());
  EXPECT_EQ(table.FindWaiting(1), first.sequence());
}

class SlotSharesTest : public ::testing::Test {
 protected:
  void Run(MadeRequest* request) {
    table_.Enqueue(request->sequence());
    table_.Start(request->sequence());
  }

  SequenceTable table_{{.weights = {{"b", 3.0}}}, 4};
  const int a_ = table_.tenants().TenantIndex("a");
  const int b_ = table_.tenants().TenantIndex("b");
  MadeRequest first_{1, Prompt(1, 5), a_};
  MadeRequest second_{2, Prompt(2, 5), a_};
  MadeRequest third_{3, Prompt(3, 5), b_};
};

TEST_F(SlotSharesTest, AreByWeightAndOnlyAmongSeveral) {
  Run(&first_);
  Run(&second_);
  EXPECT_FALSE(SlotShares(table_).several());
  EXPECT_FALSE(SlotShares(table_).MostAbove().has_value()) << "alone it may have all";
  table_.Enqueue(third_.sequence());
  const SlotShares shares(table_);
  EXPECT_TRUE(shares.several());
  EXPECT_EQ(shares.above(a_), 1) << "of four, one is its own";
  EXPECT_EQ(shares.above(b_), -3);
  EXPECT_TRUE(shares.below(b_));
  EXPECT_EQ(shares.MostAbove(), a_);
}

TEST_F(SlotSharesTest, AVictimCountsNoMore) {
  Run(&first_);
  Run(&second_);
  Run(&third_);
  EXPECT_EQ(SlotShares(table_).above(a_), 1);
  table_.MarkVictim(second_.sequence());
  EXPECT_EQ(SlotShares(table_).above(a_), 0);
  EXPECT_FALSE(SlotShares(table_).MostAbove().has_value());
}

TEST_F(SlotSharesTest, WhoComesNewToOthersThatRunIsInDeficit) {
  Run(&first_);
  table_.Enqueue(third_.sequence());
  EXPECT_TRUE(SlotShares(table_).in_deficit(b_));
  EXPECT_TRUE(SlotShares(table_).MayAdmitAhead(b_));
  EXPECT_FALSE(SlotShares(table_).MayAdmitAhead(a_)) << "none of its own waits";
  table_.tenants().Charge(b_, 1);
  EXPECT_FALSE(SlotShares(table_).in_deficit(b_)) << "with debt it waits for its turn";
}

}  // namespace
}  // namespace tessera::coordinator
