// Shared prefixes: what is matched, by whom, and what the scheduler says of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using ::testing::ElementsAre;

class PrefixTest : public tessera::testing::SchedulerTest {
 protected:
  // The prompt of request 1, as another request.
  static ScheduledRequest Again(int64_t id, int prompt_tokens, int max_tokens = 4) {
    ScheduledRequest request = Request(1, prompt_tokens, max_tokens);
    request.id = id;
    return request;
  }
};

TEST_F(PrefixTest, TheFullBlocksOfAPromptAreComputedOnce) {
  Start(Limits());
  Add(Again(1, 40, 1));
  EXPECT_THAT(Tick(), ElementsAre("1:0+40!"));
  EXPECT_EQ(last_[0].cached_tokens, 0);
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_EQ(scheduler_->stats().blocks_cached, 2);
  Add(Again(2, 40, 2));
  EXPECT_THAT(Tick(), ElementsAre("2:32+8!"));
  EXPECT_EQ(last_[0].cached_tokens, 32);
  Tick();
  EXPECT_EQ(last_[0].cached_tokens, 0) << "with the first token alone";
  EXPECT_EQ(scheduler_->stats().prefix_queries, 80);
  EXPECT_EQ(scheduler_->stats().prefix_hits, 32);
  EXPECT_EQ(output(2), ReferenceTokens(Again(2, 40, 2), 1'000));
}

TEST_F(PrefixTest, FromOneThatStillRuns) {
  Start(Limits());
  Add(Again(1, 40, 10));
  Tick();
  Add(Again(2, 48, 10));
  EXPECT_THAT(Tick(), ElementsAre("1:40+1!", "2:32+16!"));
  EXPECT_EQ(plan_->chunks(0).block_table(1), plan_->chunks(1).block_table(1));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Again(1, 40, 10), 1'000));
  EXPECT_EQ(output(2), ReferenceTokens(Again(2, 48, 10), 1'000));
}

TEST_F(PrefixTest, TheLastTokenIsAlwaysComputed) {
  Start(Limits());
  Add(Again(1, 32, 1));
  Tick();
  Add(Again(2, 32, 1));
  EXPECT_THAT(Tick(), ElementsAre("2:16+16!"));
}

TEST_F(PrefixTest, GeneratedTokensArePartOfThePrefix) {
  Start(Limits());
  Add(Again(1, 12, 10));
  RunToTheEnd();
  ScheduledRequest next_turn = Again(2, 12, 1);
  for (const int32_t token : output(1)) next_turn.prompt_ids.push_back(token);
  Add(next_turn);
  EXPECT_THAT(Tick(), ElementsAre("2:16+6!"));
}

TEST_F(PrefixTest, TenantsDoNotSeeEachOthersPrefixes) {
  Start(Limits());
  ScheduledRequest mine = Again(1, 40, 1);
  mine.tenant = "mine";
  Add(mine);
  Tick();
  ScheduledRequest theirs = Again(2, 40, 1);
  theirs.tenant = "theirs";
  Add(theirs);
  EXPECT_THAT(Tick(), ElementsAre("2:0+40!"));
  mine.id = 3;
  Add(mine);
  EXPECT_THAT(Tick(), ElementsAre("3:32+8!"));
}

TEST_F(PrefixTest, Off) {
  SchedulerLimits limits = Limits();
  limits.prefix_caching = false;
  Start(limits);
  Add(Again(1, 40, 1));
  Tick();
  Add(Again(2, 40, 1));
  EXPECT_THAT(Tick(), ElementsAre("2:0+40!"));
  EXPECT_EQ(scheduler_->stats().blocks_cached, 0);
  EXPECT_EQ(scheduler_->stats().prefix_queries, 0);
}

TEST_F(PrefixTest, WithTheGroupItsContentsAreGone) {
  Start(Limits());
  Add(Again(1, 40, 1));
  Tick();
  scheduler_->TakeUnfinished();
  group_->Forget();
  Add(Again(2, 40, 1));
  EXPECT_THAT(Tick(), ElementsAre("2:0+40!"));
}

TEST_F(PrefixTest, APreemptedOneFindsItsOwnBlocksAgain) {
  SchedulerLimits limits = Limits();
  limits.block_tokens = 4;
  limits.num_blocks = 5;
  limits.max_sequences_per_step = 2;
  Start(limits);
  Add(Request(1, 7, 3));
  Add(Request(2, 11, 4));
  EXPECT_THAT(Tick(), ElementsAre("1:0+7!", "2:0+11!"));
  EXPECT_THAT(Tick(), ElementsAre("1:7+1!", "2:11+1!"));
  EXPECT_THAT(Tick(), ElementsAre("1:8+1!")) << "the block for it was the last one of 2";
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
  EXPECT_THAT(Tick(), ElementsAre("2:8+5!"));
  RunToTheEnd();
  EXPECT_EQ(output(2), ReferenceTokens(Request(2, 11, 4), 20));
}

// Matched blocks count as needed, though nobody holds them: they are not there for others any more.
TEST_F(PrefixTest, AdmissionCountsWhatIsMatched) {
  SchedulerLimits limits = Limits();
  limits.block_tokens = 4;
  limits.num_blocks = 6;
  Start(limits);
  Add(Again(1, 16, 1));
  Tick();
  Add(Request(5, 11, 20));  // three blocks of the six
  EXPECT_THAT(Tick(), ElementsAre("2:0+11!"));
  Add(Again(3, 17, 1));  // five, of which two or three are still known
  EXPECT_THAT(Tick(), ElementsAre("2:11+1!"));
  EXPECT_TRUE(scheduler_->stats().out_of_blocks);
  RunToTheEnd();
  EXPECT_EQ(output(3), ReferenceTokens(Again(3, 17, 1), 24));
}

}  // namespace
}  // namespace tessera::coordinator
