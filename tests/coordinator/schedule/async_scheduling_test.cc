// One step ahead: the next step leaves before the last one's tokens are back.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::FakeConstraint;
using tessera::testing::Ids;
using tessera::testing::kFakeVocab;
using tessera::testing::kNow;
using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using tessera::testing::SchedulerTest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AsyncSchedulingTest : public SchedulerTest {
 protected:
  static SchedulerLimits Ahead(int in_flight = 1) {
    SchedulerLimits limits = Limits();
    limits.lookahead = true;
    limits.max_steps_in_flight = in_flight;
    return limits;
  }
};

TEST_F(AsyncSchedulingTest, TheNextDecodeLeavesWhileTheLastTokenIsStillSampled) {
  Start(Ahead());
  Add(Request(1, 4, 4));
  EXPECT_THAT(Send(), ElementsAre("1:0+4!"));
  EXPECT_THAT(Send(), ElementsAre("1:4+1?!"));
  EXPECT_EQ(plan_->chunks(0).last_token_from_step(), 1);
  EXPECT_THAT(Send(), IsEmpty()) << "one step ahead, not two";
  EXPECT_THAT(Ids(Answer()), ElementsAre(1));
  EXPECT_THAT(Send(), ElementsAre("1:5+1?!"));
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:6+1?!"));
  Answer();
  EXPECT_THAT(Send(), IsEmpty()) << "the fourth token is being sampled: nothing comes after it";
  Answer();
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 4, 4), 1'000));
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(AsyncSchedulingTest, NeverPastTheLongestSequence) {
  SchedulerLimits limits = Ahead();
  limits.max_model_len = 6;
  Start(limits);
  Add(Request(1, 4, 100));
  EXPECT_THAT(Send(), ElementsAre("1:0+4!"));
  EXPECT_THAT(Send(), ElementsAre("1:4+1?!"));
  Answer();
  EXPECT_THAT(Send(), IsEmpty());
  Answer();
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(AsyncSchedulingTest, AStopTokenMeanwhileDropsWhatWasSentAhead) {
  Start(Ahead());
  ScheduledRequest request = Request(1, 16, 100);
  request.stop_ids = {ReferenceTokens(request, 1'000)[1]};
  Add(request);
  Send();
  Send();
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:17+1?!"));
  EXPECT_THAT(Ids(Answer()), ElementsAre(1));
  EXPECT_EQ(last_[0].finished, FinishCause::kStopToken);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 62) << "the step ahead still writes them";
  EXPECT_THAT(Answer(), IsEmpty());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(AsyncSchedulingTest, FinishedAndCancelledWithTwoStepsInFlight) {
  Start(Ahead());
  Add(Request(1, 20));
  Add(Request(2, 20));
  Send();
  Send();
  EXPECT_TRUE(scheduler_->FinishChoice(1, 0));
  EXPECT_TRUE(scheduler_->Finish(2));
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_THAT(Answer(), IsEmpty());
  EXPECT_EQ(free_blocks(), 60);
  EXPECT_THAT(Answer(), IsEmpty());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(AsyncSchedulingTest, PromptChunksGoAheadToo) {
  SchedulerLimits limits = Ahead();
  limits.max_prefill_chunk = 16;
  Start(limits);
  Add(Request(1, 40, 2));
  EXPECT_THAT(Send(), ElementsAre("1:0+16"));
  EXPECT_THAT(Send(), ElementsAre("1:16+16"));
  EXPECT_THAT(Send(), IsEmpty());
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:32+8!"));
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:40+1?!"));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 40, 2), 1'000));
}

TEST_F(AsyncSchedulingTest, OverTheStagesEachStepIsBehindItsOwn) {
  Start(Ahead(2));
  for (int id = 1; id <= 4; ++id) Add(Request(id, 4, 100));
  EXPECT_THAT(Send(), ElementsAre("1:0+4!", "2:0+4!", "3:0+4!", "4:0+4!"));
  EXPECT_THAT(Send(), ElementsAre("1:4+1?!", "2:4+1?!"));
  EXPECT_THAT(Send(), ElementsAre("3:4+1?!", "4:4+1?!"));
  EXPECT_THAT(Send(), IsEmpty()) << "three are in flight";
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:5+1?!", "2:5+1?!"));
  Answer();
  EXPECT_THAT(Send(), ElementsAre("3:5+1?!", "4:5+1?!"));
}

TEST_F(AsyncSchedulingTest, NobodyRunsAheadBesideAConstraint) {
  Start(Ahead());
  ScheduledRequest constrained = Request(1, 4, 2);
  constrained.constraint = std::make_shared<FakeConstraint>(7);
  Add(constrained);
  Add(Request(2, 4, 4));
  EXPECT_THAT(Send(), ElementsAre("1:0+4!", "2:0+4!"));
  EXPECT_THAT(Send(), IsEmpty());
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:4+1!", "2:4+1!")) << "it is in every step";
  EXPECT_THAT(Send(), IsEmpty());
  Answer();  // 1 is done
  EXPECT_THAT(Send(), ElementsAre("2:5+1!"));
  EXPECT_THAT(Send(), ElementsAre("2:6+1?!"));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(constrained, 1'000));
  EXPECT_EQ(output(2), ReferenceTokens(Request(2, 4, 4), 1'000));
}

TEST_F(AsyncSchedulingTest, NorBesideABadWordOfSeveralTokensButBesideOneOfASingle) {
  Start(Ahead());
  ScheduledRequest request = Request(1, 4);
  request.bad_words = {{3}};
  Add(request);
  Send();
  EXPECT_THAT(Send(), ElementsAre("1:4+1?!"));
  Start(Ahead());
  request.bad_words = {{3, 4}};
  Add(request);
  Send();
  EXPECT_THAT(Send(), IsEmpty());
}

TEST_F(AsyncSchedulingTest, MinTokensAreCountedAhead) {
  Start(Ahead());
  ScheduledRequest request = Request(1, 4, 8);
  request.stop_ids = {5, 6};
  request.min_tokens = 2;
  Add(request);
  Send();
  EXPECT_THAT(plan_->chunks(0).logits_state().banned_ids(), ElementsAre(5, 6));
  Send();
  EXPECT_THAT(plan_->chunks(0).logits_state().banned_ids(), ElementsAre(5, 6))
      << "the second token";
  Answer();
  Send();
  EXPECT_THAT(plan_->chunks(0).logits_state().banned_ids(), IsEmpty()) << "the third";
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(request, 1'000));
}

TEST_F(AsyncSchedulingTest, PenaltiesLeaveTheTokenStillSampledToTheLeader) {
  Start(Ahead());
  ScheduledRequest request = Request(1, 4, 6);
  request.sampling.set_frequency_penalty(0.5f);
  Add(request);
  Send();
  EXPECT_EQ(plan_->chunks(0).logits_state().output_ids_size(), 0);
  Send();
  EXPECT_EQ(plan_->chunks(0).logits_state().output_ids_size(), 0);
  Answer();
  Send();
  EXPECT_THAT(plan_->chunks(0).logits_state().output_ids(), ElementsAre(output(1)[0]));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(request, 1'000));
}

TEST_F(AsyncSchedulingTest, AResultBeforeTheOneItNeedsIsALie) {
  Start(Ahead());
  Add(Request(1, 4));
  Send();
  Send();
  v1::StepResult second;
  second.set_step_id(2);
  second.add_tokens()->set_sequence_id(1);
  const absl::Status status = scheduler_->Commit(second).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("an earlier step's is still missing"));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 4), 1'000));
}

// Everybody is in flight all the time, so whoever is the victim is left out until it is back.
TEST_F(AsyncSchedulingTest, AVictimInFlightIsPreemptedAsSoonAsItIsBack) {
  SchedulerLimits limits = Ahead();
  limits.block_tokens = 4;
  limits.num_blocks = 4;
  Start(limits);
  Add(Request(1, 7, 8));
  Add(Request(2, 7, 8));
  EXPECT_THAT(Send(), ElementsAre("1:0+7!", "2:0+7!"));
  EXPECT_THAT(Send(), ElementsAre("1:7+1?!", "2:7+1?!"));
  Answer();
  EXPECT_THAT(Send(), IsEmpty()) << "1 needs a third block, 2 is in flight";
  EXPECT_EQ(scheduler_->stats().preemptions, 0);
  Answer();
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
  EXPECT_THAT(Send(), ElementsAre("1:8+1!"));
  EXPECT_THAT(Send(), ElementsAre("1:9+1?!"));
  RunToTheEnd();
  for (const int64_t id : {1, 2}) {
    EXPECT_EQ(output(id), ReferenceTokens(Request(id, 7, 8), 16));
  }
}

TEST_F(AsyncSchedulingTest, TakeUnfinishedWithStepsAhead) {
  Start(Ahead());
  Add(Request(1, 20));
  Send();
  Send();
  EXPECT_THAT(Ids(scheduler_->TakeUnfinished()), ElementsAre(1));
  group_->Forget();
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_EQ(scheduler_->stats().blocks_cached, 0);
  Add(Request(1, 20));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 20), 1'000));
}

}  // namespace
}  // namespace tessera::coordinator
