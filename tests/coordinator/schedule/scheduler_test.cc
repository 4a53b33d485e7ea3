// Tick by tick: what each step holds, and how requests end.
#include "coordinator/schedule/scheduler.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/wire/status_builders.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Ids;
using tessera::testing::kFakeVocab;
using tessera::testing::kNow;
using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using tessera::testing::SchedulerTest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(SchedulerTest, NothingToDo) {
  Start(Limits());
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_FALSE(scheduler_->Schedule(kNow).has_value());
}

TEST_F(SchedulerTest, PromptInChunksThenDecodes) {
  SchedulerLimits limits = Limits();
  limits.max_prefill_chunk = 16;
  Start(limits);
  Add(Request(1, 40, 3));
  EXPECT_THAT(Tick(), ElementsAre("1:0+16"));
  EXPECT_EQ(free_blocks(), 63);
  EXPECT_THAT(last_, IsEmpty());
  EXPECT_THAT(Tick(), ElementsAre("1:16+16"));
  EXPECT_THAT(Tick(), ElementsAre("1:32+8!"));
  EXPECT_EQ(free_blocks(), 61);
  EXPECT_THAT(Ids(last_), ElementsAre(1));
  EXPECT_THAT(Tick(), ElementsAre("1:40+1!"));
  EXPECT_EQ(last_[0].finished, FinishCause::kNone);
  EXPECT_THAT(Tick(), ElementsAre("1:41+1!"));
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_NE(last_[0].token, nullptr);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(SchedulerTest, SamplingParametersGoWithTheSamplingChunkAlone) {
  SchedulerLimits limits = Limits();
  limits.max_prefill_chunk = 3;
  Start(limits);
  ScheduledRequest request = Request(1, 5);
  request.sampling.set_temperature(0.5f);
  request.sampling.set_num_logprobs(-1);
  Add(request);
  const auto first = scheduler_->Schedule(kNow);
  EXPECT_FALSE(first->chunks(0).has_sampling());
  group_->Send(*first);
  Answer();
  const auto second = scheduler_->Schedule(kNow);
  EXPECT_EQ(second->chunks(0).sampling().SerializeAsString(), request.sampling.SerializeAsString());
}

TEST_F(SchedulerTest, LogitsAreAskedOfEveryChunk) {
  SchedulerLimits limits = Limits();
  limits.max_prefill_chunk = 3;
  Start(limits);
  ScheduledRequest request = Request(1, 5, 2);
  request.return_logits = true;
  Add(request);
  Add(Request(2, 2, 2));
  for (int step = 0; step < 3; ++step) {
    const auto plan = scheduler_->Schedule(kNow);
    ASSERT_TRUE(plan.has_value());
    for (const auto& chunk : plan->chunks()) {
      EXPECT_EQ(chunk.return_logits(), chunk.sequence_id() == 1);
    }
    group_->Send(*plan);
    Answer();
  }
}

TEST_F(SchedulerTest, DecodesFirstThenPromptsWithinTheBudget) {
  SchedulerLimits limits = Limits();
  limits.max_tokens_per_step = 10;
  Start(limits);
  for (int id = 1; id <= 3; ++id) Add(Request(id, 6));
  EXPECT_THAT(Tick(), ElementsAre("1:0+6!", "2:0+4"));
  EXPECT_THAT(Tick(), ElementsAre("1:6+1!", "2:4+2!", "3:0+6!"));
  EXPECT_THAT(Tick(), ElementsAre("1:7+1!", "2:6+1!", "3:6+1!"));
}

TEST_F(SchedulerTest, APromptThatIsUnderWayGoesBeforeANewOne) {
  SchedulerLimits limits = Limits();
  limits.max_tokens_per_step = 4;
  Start(limits);
  Add(Request(1, 9));
  Add(Request(2, 1));
  EXPECT_THAT(Tick(), ElementsAre("1:0+4"));
  EXPECT_THAT(Tick(), ElementsAre("1:4+4"));
  EXPECT_THAT(Tick(), ElementsAre("1:8+1!", "2:0+1!"));
}

TEST_F(SchedulerTest, AtMostSoManyRunAtOnce) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 2;
  Start(limits);
  for (int id = 1; id <= 3; ++id) Add(Request(id, 2, 2));
  EXPECT_THAT(Tick(), ElementsAre("1:0+2!", "2:0+2!"));
  EXPECT_EQ(scheduler_->stats().waiting, 1);
  EXPECT_THAT(Tick(), ElementsAre("1:2+1!", "2:2+1!"));
  EXPECT_THAT(Tick(), ElementsAre("3:0+2!"));
}

TEST_F(SchedulerTest, AdmissionIsFirstComeFirstServedEvenIfALaterOneWouldFit) {
  SchedulerLimits limits = Limits();
  limits.num_blocks = 4;
  Start(limits);
  Add(Request(1, 40));  // three of the four blocks
  Add(Request(2, 20));  // two
  Add(Request(3, 2));   // one would be free
  EXPECT_THAT(Tick(), ElementsAre("1:0+40!"));
  EXPECT_EQ(scheduler_->stats().waiting, 2);
}

TEST_F(SchedulerTest, StepsInFlightAreBoundedAndDisjoint) {
  SchedulerLimits limits = Limits();
  limits.max_steps_in_flight = 2;
  limits.max_tokens_per_step = 8;
  Start(limits);
  for (int id = 1; id <= 4; ++id) Add(Request(id, 4));
  EXPECT_THAT(Send(), ElementsAre("1:0+4!", "2:0+4!"));
  EXPECT_THAT(Send(), ElementsAre("3:0+4!", "4:0+4!"));
  EXPECT_THAT(Send(), IsEmpty()) << "two are in flight";
  EXPECT_THAT(Ids(Answer()), ElementsAre(1, 2));
  EXPECT_THAT(Send(), ElementsAre("1:4+1!", "2:4+1!"));
  EXPECT_THAT(Ids(Answer()), ElementsAre(3, 4));
}

TEST_F(SchedulerTest, DecodesAreSharedOutOverTheStepsInFlight) {
  SchedulerLimits limits = Limits();
  limits.max_steps_in_flight = 2;
  Start(limits);
  for (int id = 1; id <= 3; ++id) Add(Request(id, 4, 100));
  EXPECT_THAT(Tick(), ElementsAre("1:0+4!", "2:0+4!", "3:0+4!"));
  EXPECT_THAT(Send(), ElementsAre("1:4+1!", "2:4+1!"));
  EXPECT_THAT(Send(), ElementsAre("3:4+1!"));
}

TEST_F(SchedulerTest, ResultsMayComeInAnyOrder) {
  SchedulerLimits limits = Limits();
  limits.max_steps_in_flight = 2;
  limits.max_tokens_per_step = 4;
  Start(limits);
  Add(Request(1, 4));
  Add(Request(2, 4));
  Send();
  Send();
  const v1::StepResult result = group_->ExecuteNewest();
  auto newest = scheduler_->Commit(result);
  ASSERT_TRUE(newest.ok());
  EXPECT_THAT(Ids(*newest), ElementsAre(2));
  EXPECT_THAT(Ids(Answer()), ElementsAre(1));
}

TEST_F(SchedulerTest, AStopTokenIsEmittedAndEndsTheRequest) {
  Start(Limits());
  ScheduledRequest request = Request(1, 3, 100);
  const std::vector<int32_t> would_be = ReferenceTokens(request, 1'000);
  request.stop_ids = {-5, would_be[4]};
  const std::vector<int32_t> expected = ReferenceTokens(request, 1'000);
  Add(request);
  std::vector<int32_t> emitted;
  while (!scheduler_->idle()) {
    Tick();
    emitted.push_back(last_.at(0).token->token_id());
  }
  EXPECT_EQ(emitted, expected);
  EXPECT_EQ(last_[0].finished, FinishCause::kStopToken);
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(SchedulerTest, EndsAtTheLongestSequence) {
  SchedulerLimits limits = Limits();
  limits.max_model_len = 10;
  Start(limits);
  Add(Request(1, 8, 100));
  Tick();
  EXPECT_EQ(last_[0].finished, FinishCause::kNone);
  Tick();
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, EndsWhereAllBlocksAreFull) {
  SchedulerLimits limits = Limits();
  limits.block_tokens = 4;
  limits.num_blocks = 2;
  limits.max_model_len = 100;
  Start(limits);
  Add(Request(1, 6, 100));
  Tick();
  Tick();
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(SchedulerTest, RefusesWhatCanNeverFit) {
  SchedulerLimits limits = Limits();
  limits.max_model_len = 100;
  Start(limits);
  absl::Status status = scheduler_->Add(Request(1, 100), kNow);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "prompt has 100 tokens; expected 1 .. 99 (max_model_len is 100 tokens, one of them "
            "generated)");
  EXPECT_EQ(scheduler_->Add(Request(1, 99), kNow), absl::OkStatus());
  limits.num_blocks = 2;
  Start(limits);
  status = scheduler_->Add(Request(1, 32), kNow);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "prompt has 32 tokens; expected 1 .. 31 (all 2 KV blocks hold 32 tokens, one of them "
            "generated)");
  EXPECT_EQ(scheduler_->Add(Request(1, 31), kNow), absl::OkStatus());
}

TEST_F(SchedulerTest, RefusesEmptyPromptsNoTokensAndLiveIds) {
  Start(Limits());
  EXPECT_EQ(scheduler_->Add(Request(1, 0), kNow).message(),
            "prompt is empty; expected at least 1 token");
  EXPECT_EQ(scheduler_->Add(Request(1, 3, -1), kNow).message(),
            "max_tokens is -1; expected at least 0");
  Add(Request(1, 3));
  EXPECT_EQ(scheduler_->Add(Request(1, 3), kNow).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(scheduler_->stats().waiting, 1);
}

TEST_F(SchedulerTest, TheQueueIsBounded) {
  SchedulerLimits limits = Limits();
  limits.max_queue = 2;
  Start(limits);
  Add(Request(1, 3));
  Add(Request(2, 3));
  const absl::Status status = scheduler_->Add(Request(3, 3), kNow);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 requests wait, at most 2 may"));
  EXPECT_TRUE(wire::RetryAfter(status).has_value());
  Tick();
  Add(Request(3, 3));
}

TEST_F(SchedulerTest, DeadlinesEndWaitingAndRunningRequests) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 1;
  Start(limits);
  ScheduledRequest running = Request(1, 3, 100);
  running.deadline = kNow + absl::Seconds(5);
  ScheduledRequest waiting = Request(2, 3, 100);
  waiting.deadline = kNow + absl::Seconds(2);
  Add(running);
  Add(waiting);
  EXPECT_THAT(Tick(), ElementsAre("1:0+3!"));
  EXPECT_THAT(scheduler_->TakeExpired(), IsEmpty());
  EXPECT_THAT(Send(kNow + absl::Seconds(2)), ElementsAre("1:3+1!"));
  auto expired = scheduler_->TakeExpired();
  EXPECT_THAT(Ids(expired), ElementsAre(2));
  EXPECT_EQ(expired[0].finished, FinishCause::kDeadline);
  EXPECT_EQ(expired[0].token, nullptr);
  Answer();
  EXPECT_THAT(Send(kNow + absl::Seconds(6)), IsEmpty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_THAT(scheduler_->TakeExpired(), IsEmpty()) << "told once";
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(SchedulerTest, ADeadlineInFlightKeepsTheBlocksUntilTheStepIsBack) {
  Start(Limits());
  ScheduledRequest request = Request(1, 20);
  request.deadline = kNow + absl::Seconds(1);
  Add(request);
  Send();
  EXPECT_THAT(Send(kNow + absl::Seconds(1)), IsEmpty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_EQ(free_blocks(), 62);
  EXPECT_THAT(Answer(), IsEmpty());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(SchedulerTest, CancelWhileWaiting) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 1;
  Start(limits);
  Add(Request(1, 3, 1));
  Add(Request(2, 3));
  Add(Request(3, 3));
  Tick();
  EXPECT_TRUE(scheduler_->Finish(2));
  EXPECT_FALSE(scheduler_->Finish(2));
  EXPECT_THAT(Tick(), ElementsAre("3:0+3!"));
}

TEST_F(SchedulerTest, CancelBetweenSteps) {
  SchedulerLimits limits = Limits();
  limits.max_prefill_chunk = 16;
  Start(limits);
  Add(Request(1, 40));  // in the middle of its prompt
  Add(Request(2, 5));   // decoding
  Tick();
  EXPECT_EQ(free_blocks(), 62);
  EXPECT_TRUE(scheduler_->Finish(1));
  EXPECT_TRUE(scheduler_->Finish(2));
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_THAT(Tick(), IsEmpty());
}

TEST_F(SchedulerTest, CancelInFlightFreesTheBlocksWithThatStepAndDropsItsToken) {
  Start(Limits());
  Add(Request(1, 20));
  Add(Request(2, 20));
  Send();
  EXPECT_TRUE(scheduler_->Finish(1));
  EXPECT_FALSE(scheduler_->Finish(1));
  EXPECT_EQ(free_blocks(), 60) << "the step still writes them";
  // The id may be used again at once.
  Add(Request(1, 3));
  EXPECT_THAT(Ids(Answer()), ElementsAre(2));
  EXPECT_EQ(free_blocks(), 62);
  EXPECT_THAT(Tick(), ElementsAre("2:20+1!", "3:0+3!"));
}

TEST_F(SchedulerTest, SeveralStagesGetAPromptInPiecesOnceCostsAreKnown) {
  for (const int stages : {1, 2}) {
    SchedulerLimits limits = Limits();
    limits.num_blocks = 128;
    limits.max_steps_in_flight = stages;
    Start(limits);
    absl::Time now = kNow;
    const auto answer = [&](int64_t micros) {
      Answer(micros);
      now += absl::Microseconds(micros);
    };
    Add(Request(1, 600, 1));
    EXPECT_THAT(Send(now), ElementsAre("1:0+512"));  // nothing is known yet
    answer(1000 + 100 * 512);
    Send(now);
    answer(1000 + 100 * 88);
    Add(Request(2, 20, 12));
    for (int64_t micros = 1000 + 100 * 20; !Send(now).empty(); micros = 1200) answer(micros);
    Add(Request(3, 1000, 1));
    if (stages == 1) {
      EXPECT_THAT(Send(now), ElementsAre("3:0+512"));
      continue;
    }
    // An eighth of what is left, but no fewer than a step is worth: it costs as much as ten tokens.
    EXPECT_THAT(Send(now), ElementsAre("3:0+125"));
    EXPECT_TRUE(scheduler_->Finish(3));
    answer(1000 + 100 * 125);
    Add(Request(4, 400, 1));
    const std::vector<std::string> worth = Send(now);
    EXPECT_THAT(worth, ElementsAre(::testing::AnyOf("4:0+79", "4:0+80")));
  }
}

TEST_F(SchedulerTest, TakeUnfinishedForgetsEverything) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 2;
  limits.max_steps_in_flight = 2;
  Start(limits);
  for (int id = 1; id <= 4; ++id) Add(Request(id, 20));
  Send();
  const v1::StepResult late = group_->ExecuteOldest();
  EXPECT_TRUE(scheduler_->Finish(2));
  const auto unfinished = scheduler_->TakeUnfinished();
  EXPECT_THAT(Ids(unfinished), ElementsAre(1, 3, 4));
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 64);
  EXPECT_EQ(scheduler_->Commit(late).status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(scheduler_->TakeUnfinished(), IsEmpty());
  // And it goes on with the next group.
  Add(Request(1, 4));
  EXPECT_THAT(Tick(), ElementsAre("5:0+4!"));
}

TEST_F(SchedulerTest, ALyingResultChangesNothing) {
  Start(Limits());
  Add(Request(1, 20));
  Send();
  const v1::StepResult honest = group_->ExecuteOldest();
  v1::StepResult lie = honest;
  lie.mutable_tokens(0)->set_token_id(kFakeVocab);
  EXPECT_EQ(scheduler_->Commit(lie).status().code(), absl::StatusCode::kInternal);
  lie = honest;
  lie.mutable_tokens(0)->set_logprob(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(scheduler_->Commit(lie).status().code(), absl::StatusCode::kInternal);
  lie = honest;
  lie.set_step_id(99);
  EXPECT_THAT(std::string(scheduler_->Commit(lie).status().message()),
              HasSubstr("step 99, which is not in flight"));
  auto emissions = scheduler_->Commit(honest);
  ASSERT_TRUE(emissions.ok());
  EXPECT_THAT(Ids(*emissions), ElementsAre(1));
  EXPECT_EQ(scheduler_->Commit(honest).status().code(), absl::StatusCode::kInternal)
      << "the same result twice";
}

TEST(SchedulerDeathTest, SenselessLimitsAbort) {
  EXPECT_DEATH(Scheduler(SchedulerLimits{}), "num_blocks is 0; expected at least 1");
}

}  // namespace
}  // namespace tessera::coordinator
