// A request whose group was lost goes on in another group's scheduler, token for token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/fake_model.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::testing {
namespace {

using coordinator::ScheduledRequest;
using coordinator::SchedulerLimits;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::SizeIs;

class ReplayTest : public SchedulerTest {
 protected:
  // The group is lost; another one takes over what it had, under `limits`.
  void MoveTo(const SchedulerLimits& limits) {
    std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
    Start(limits);
    for (const ScheduledRequest& request : unfinished) Add(request);
  }
};

TEST_F(ReplayTest, TokensGoOnWhereTheyWere) {
  Start(Limits());
  Add(Request(1, 20, 30));
  for (int i = 0; i < 11; ++i) Tick();
  MoveTo(Limits());
  EXPECT_THAT(Tick(), ElementsAre(EndsWith(":0+31!")));  // the prompt and eleven tokens
  EXPECT_THAT(last_, SizeIs(1));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 20, 30), 1'000));
}

TEST_F(ReplayTest, ATokenThatWasStillUnderWayIsSampledAgain) {
  SchedulerLimits limits = Limits();
  limits.lookahead = true;
  Start(limits);
  Add(Request(1, 20, 30));
  for (int i = 0; i < 5; ++i) Tick();
  Send();
  Send();
  MoveTo(Limits());
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 20, 30), 1'000));
}

TEST_F(ReplayTest, TheRestOfAPromptsLogProbabilitiesComes) {
  SchedulerLimits limits = Limits();
  limits.max_tokens_per_step = 8;
  Start(limits);
  ScheduledRequest request = Request(1, 20, 3);
  request.prompt_logprobs_from = 1;
  Add(request);
  std::vector<float> logprobs;
  const auto take = [&] {
    for (const auto& emission : last_) {
      for (const auto& one : emission.prompt_logprobs) logprobs.push_back(one.logprob());
    }
  };
  Tick();
  take();
  EXPECT_THAT(logprobs, SizeIs(8));
  MoveTo(limits);
  while (!scheduler_->idle()) {
    Tick();
    take();
  }
  EXPECT_EQ(logprobs, ReferencePromptLogprobs(request));
  EXPECT_EQ(output(1), ReferenceTokens(request, 1'000));
}

TEST_F(ReplayTest, ChoicesShareThePromptAgainAndOneThatIsOverStaysOver) {
  Start(Limits());
  ScheduledRequest request = Request(1, 40, 12);
  request.seeds = {1, 2, 3};
  Add(request);
  for (int i = 0; i < 6; ++i) Tick();
  EXPECT_TRUE(scheduler_->FinishChoice(1, 0));
  const size_t said = output(1, 0).size();
  MoveTo(Limits());
  EXPECT_THAT(Tick(), SizeIs(1));  // the second choice computes the prompt for both
  EXPECT_THAT(Tick(), SizeIs(2));
  RunToTheEnd();
  EXPECT_THAT(output(1, 0), SizeIs(said));
  for (const int choice : {1, 2}) {
    EXPECT_EQ(output(1, choice), ReferenceTokens(request, 1'000, choice)) << choice;
  }
}

TEST_F(ReplayTest, ReplaysGoBeforeWhoComesForTheFirstTime) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 1;
  Start(limits);
  Add(Request(1, 20, 8));
  Add(Request(2, 20, 8));
  Tick();
  const std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
  Start(limits);
  Add(Request(3, 20, 8));
  for (const ScheduledRequest& request : unfinished) Add(request);
  std::vector<int64_t> begun;
  while (!scheduler_->idle()) {
    Tick();
    for (const int64_t id : Ids(last_)) {
      if (begun.empty() || begun.back() != id) begun.push_back(id);
    }
  }
  EXPECT_THAT(begun, ElementsAre(1, 2, 3));
}

TEST_F(ReplayTest, AFullQueueTurnsNoReplayAway) {
  SchedulerLimits limits = Limits();
  limits.max_queue = 1;
  Start(limits);
  Add(Request(1, 20));
  const std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
  Start(limits);
  Add(Request(2, 20));
  EXPECT_EQ(scheduler_->Add(Request(3, 20), kNow).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(scheduler_->Add(unfinished[0], kNow), absl::OkStatus());
}

TEST_F(ReplayTest, OneThatHasOutgrownTheGroupIsRefused) {
  Start(Limits());
  Add(Request(1, 20, 40));
  for (int i = 0; i < 20; ++i) Tick();
  const std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
  SchedulerLimits small = Limits();
  small.max_model_len = 32;
  Start(small);
  EXPECT_EQ(scheduler_->Add(unfinished[0], kNow).code(), absl::StatusCode::kResourceExhausted);
}

// ---- who may have killed the group

TEST_F(ReplayTest, WhoeverGotFurtherIsNotSuspected) {
  SchedulerLimits limits = Limits();
  limits.max_sequences_per_step = 2;
  Start(limits);
  Add(Request(1, 20, 30));
  Tick();
  Add(Request(2, 20, 30));
  Add(Request(3, 20, 30));
  Send();  // decodes the first and computes the second's prompt; the third waits
  std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
  ASSERT_THAT(unfinished, SizeIs(3));
  EXPECT_FALSE(unfinished[0].is_suspect);
  EXPECT_TRUE(unfinished[1].is_suspect);
  EXPECT_EQ(unfinished[1].losses, 1) << "it alone can have been the cause";
  EXPECT_FALSE(unfinished[2].is_suspect);
  // In the next group it runs once the first has shown that it does no harm.
  Start(limits);
  for (const ScheduledRequest& request : unfinished) Add(request);
  EXPECT_THAT(Tick(), SizeIs(1));
  EXPECT_THAT(Send(), SizeIs(2));
  unfinished = scheduler_->TakeUnfinished();
  EXPECT_EQ(unfinished[0].losses, 0);
  EXPECT_EQ(unfinished[1].losses, 2);
  EXPECT_EQ(unfinished[2].losses, 0);
}

TEST_F(ReplayTest, WhoeverIsNotAloneIsSuspectedAndNotCounted) {
  Start(Limits());
  for (int id = 1; id <= 2; ++id) Add(Request(id, 20, 30));
  Send();
  for (const ScheduledRequest& request : scheduler_->TakeUnfinished()) {
    EXPECT_TRUE(request.is_suspect);
    EXPECT_EQ(request.losses, 0);
  }
}

TEST_F(ReplayTest, NobodyIsSuspectedWhereTheCauseIsKnown) {
  Start(Limits());
  Add(Request(1, 20, 30));
  Send();
  const std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished(false);
  EXPECT_FALSE(unfinished[0].is_suspect);
  EXPECT_EQ(unfinished[0].losses, 0);
}

TEST_F(ReplayTest, SuspectsRunAloneUntilTheyHaveAToken) {
  Start(Limits());
  for (int id = 1; id <= 3; ++id) Add(Request(id, 20, 30));
  Send();
  std::vector<ScheduledRequest> unfinished = scheduler_->TakeUnfinished();
  Start(Limits());
  for (const ScheduledRequest& request : unfinished) Add(request);
  Add(Request(4, 20, 30));
  EXPECT_THAT(Tick(), ElementsAre(EndsWith(":0+20!")));
  EXPECT_THAT(Tick(), ElementsAre(EndsWith(":20+1!"), EndsWith(":0+20!")));
  Send();
  unfinished = scheduler_->TakeUnfinished();
  EXPECT_EQ(unfinished[0].losses, 0);
  EXPECT_EQ(unfinished[1].losses, 0);
  EXPECT_EQ(unfinished[2].losses, 1);
  EXPECT_FALSE(unfinished[3].is_suspect) << "it was not in the step";
}

}  // namespace
}  // namespace tessera::testing
