// Several choices of one request: the prompt is computed once and shared, block by block.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::FakeConstraint;
using tessera::testing::Ids;
using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ChoicesTest : public tessera::testing::SchedulerTest {
 protected:
  // Without the prefix cache, so that sharing is between the choices alone.
  static SchedulerLimits Uncached() {
    SchedulerLimits limits = Limits();
    limits.prefix_caching = false;
    return limits;
  }

  static ScheduledRequest Three(int64_t id, int prompt_tokens, int max_tokens = 4) {
    ScheduledRequest request = Request(id, prompt_tokens, max_tokens);
    request.seeds = {11, 22, 33};
    return request;
  }

  void ExpectOutputs(const ScheduledRequest& request, int max_len = 1'000) {
    for (int choice = 0; choice < static_cast<int>(request.seeds.size()); ++choice) {
      EXPECT_EQ(output(request.id, choice), ReferenceTokens(request, max_len, choice)) << choice;
    }
  }
};

TEST_F(ChoicesTest, TheOthersStartWhenThePromptIsComputed) {
  Start(Uncached());
  Add(Three(1, 20));
  EXPECT_THAT(Tick(), ElementsAre("1:0+20!"));
  EXPECT_EQ(free_blocks(), 62);
  EXPECT_THAT(Tick(), ElementsAre("1:20+1!", "2:19+1!", "3:19+1!"));
  // The full block is shared, the one with the last prompt token copied for each.
  EXPECT_EQ(plan_->copies_size(), 2);
  EXPECT_EQ(free_blocks(), 60);
  EXPECT_EQ(plan_->chunks(0).block_table(0), plan_->chunks(2).block_table(0));
  EXPECT_EQ(plan_->chunks(1).sampling().seed(), 22u);
  ASSERT_EQ(last_.size(), 3u);
  EXPECT_EQ(last_[2].choice, 2);
  RunToTheEnd();
  ExpectOutputs(Three(1, 20));
}

TEST_F(ChoicesTest, AFullLastBlockIsCopiedForTheTokenComputedAgain) {
  Start(Uncached());
  Add(Three(1, 32));
  Tick();
  EXPECT_THAT(Tick(), ElementsAre("1:32+1!", "2:31+1!", "3:31+1!"));
  EXPECT_EQ(plan_->copies_size(), 2);
  RunToTheEnd();
  ExpectOutputs(Three(1, 32));
}

TEST_F(ChoicesTest, NothingIsCopiedWhereOnlyTheLastTokenStandsInItsBlock) {
  Start(Uncached());
  Add(Three(1, 17));
  Tick();
  EXPECT_THAT(Tick(), ElementsAre("1:17+1!", "2:16+1!", "3:16+1!"));
  EXPECT_EQ(plan_->copies_size(), 0);
  RunToTheEnd();
  ExpectOutputs(Three(1, 17));
}

TEST_F(ChoicesTest, APromptOfOneToken) {
  Start(Uncached());
  Add(Three(1, 1));
  RunToTheEnd();
  ExpectOutputs(Three(1, 1));
}

TEST_F(ChoicesTest, OneStepAheadAndWithThePrefixCache) {
  SchedulerLimits limits = Limits();
  limits.lookahead = true;
  Start(limits);
  Add(Three(1, 33, 20));
  Add(Three(2, 16, 20));
  RunToTheEnd();
  ExpectOutputs(Three(1, 33, 20));
  ExpectOutputs(Three(2, 16, 20));
}

TEST_F(ChoicesTest, EachHasItsOwnConstraint) {
  Start(Uncached());
  ScheduledRequest request = Three(1, 20, 10);
  request.constraint = std::make_shared<FakeConstraint>(5);
  Add(request);
  RunToTheEnd();
  ExpectOutputs(request);
}

TEST_F(ChoicesTest, OnlyTheLastToFinishEndsTheRequest) {
  Start(Uncached());
  Add(Three(1, 20, 3));
  Tick();
  EXPECT_TRUE(scheduler_->FinishChoice(1, 1));
  EXPECT_FALSE(scheduler_->FinishChoice(1, 1)) << "it is over already";
  EXPECT_FALSE(scheduler_->FinishChoice(1, 3)) << "there is none";
  EXPECT_THAT(Tick(), ElementsAre("1:20+1!", "3:19+1!"));
  Tick();
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_FALSE(scheduler_->idle());
  EXPECT_EQ(scheduler_->stats().running, 1);
  EXPECT_THAT(Tick(), ElementsAre("3:21+1!"));
  EXPECT_EQ(last_[0].choice, 2);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(ChoicesTest, TheFirstEndsBeforeTheOthersBegin) {
  Start(Uncached());
  Add(Three(1, 20, 1));
  EXPECT_THAT(Tick(), ElementsAre("1:0+20!"));
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_THAT(Tick(), ElementsAre("2:0+20!", "3:0+20!")) << "nothing is left to share";
  EXPECT_TRUE(scheduler_->idle());
  ExpectOutputs(Three(1, 20, 1));
}

TEST_F(ChoicesTest, TheFirstIsFinishedInTheMiddleOfThePrompt) {
  SchedulerLimits limits = Uncached();
  limits.max_prefill_chunk = 16;
  Start(limits);
  Add(Three(1, 20));
  EXPECT_THAT(Tick(), ElementsAre("1:0+16"));
  EXPECT_TRUE(scheduler_->FinishChoice(1, 0));
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_THAT(Tick(), ElementsAre("2:0+16")) << "the next one computes it for the rest";
  EXPECT_THAT(Tick(), ElementsAre("2:16+4!"));
  EXPECT_THAT(Tick(), ElementsAre("2:20+1!", "3:19+1!"));
  RunToTheEnd();
  EXPECT_EQ(output(1, 2), ReferenceTokens(Three(1, 20), 1'000, 2));
}

TEST_F(ChoicesTest, CancelledWhileTheOthersAreHeld) {
  Start(Uncached());
  Add(Three(1, 20));
  Send();
  EXPECT_TRUE(scheduler_->Finish(1));
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_THAT(Answer(), IsEmpty());
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_THAT(Tick(), IsEmpty());
}

TEST_F(ChoicesTest, MoreChoicesThanSlots) {
  SchedulerLimits limits = Uncached();
  limits.max_sequences_per_step = 2;
  Start(limits);
  ScheduledRequest request = Request(1, 10, 5);
  for (uint64_t seed = 0; seed < 7; ++seed) request.seeds.push_back(seed);
  Add(request);
  Add(Request(2, 3));
  RunToTheEnd();
  ExpectOutputs(request);
  EXPECT_EQ(output(2), ReferenceTokens(Request(2, 3), 1'000));
}

TEST_F(ChoicesTest, PreemptedChoicesComeBackWithTheirOwnTokens) {
  for (const bool lookahead : {false, true}) {
    SchedulerLimits limits = Uncached();
    limits.block_tokens = 4;
    limits.num_blocks = 11;
    limits.lookahead = lookahead;
    Start(limits);
    outputs_.clear();
    Add(Three(1, 10, 20));
    Add(Three(2, 7, 20));
    RunToTheEnd();
    EXPECT_GT(scheduler_->stats().preemptions, 0);
    ExpectOutputs(Three(1, 10, 20), 44);
    ExpectOutputs(Three(2, 7, 20), 44);
  }
}

TEST_F(ChoicesTest, NothingGeneratedMeansOneChoice) {
  Start(Limits());
  const absl::Status status = scheduler_->Add(Three(1, 20, 0), tessera::testing::kNow);
  EXPECT_EQ(status.message(), "n is 3; expected 1 where nothing is generated");
}

TEST_F(ChoicesTest, ADeadlineEndsAllInOneEmission) {
  Start(Uncached());
  ScheduledRequest request = Three(1, 20);
  request.deadline = tessera::testing::kNow + absl::Seconds(1);
  Add(request);
  Tick();
  Tick();
  EXPECT_THAT(Send(request.deadline), IsEmpty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_EQ(free_blocks(), 64);
}

}  // namespace
}  // namespace tessera::coordinator
