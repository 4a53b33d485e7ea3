#include "coordinator/schedule/overload_estimator.h"

#include <cmath>
#include <deque>
#include <vector>

#include <gtest/gtest.h>

#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::LearnedCost;
using tessera::testing::MadeRequest;
using tessera::testing::Prompt;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

class OverloadEstimatorTest : public ::testing::Test {
 protected:
  // So many decodes that run, with `left` until their deadlines.
  std::vector<Sequence*> Running(int count, absl::Duration left) {
    std::vector<Sequence*> running;
    for (int i = 0; i < count; ++i) {
      MadeRequest& request = requests_.emplace_back(i + 1, Prompt(i + 1, 10));
      request.Decodes();
      request.state()->request.deadline = kNow + left;
      running.push_back(request.sequence());
    }
    return running;
  }

  const SchedulerLimits limits_ = {
      .num_blocks = 100, .max_tokens_per_step = 100, .max_sequences_per_step = 8};
  const StepCost cost_ = LearnedCost();
  OverloadEstimator estimator_{limits_, &cost_};
  std::deque<MadeRequest> requests_;
  MadeRequest request_{100, Prompt(100, 150)};
};

TEST_F(OverloadEstimatorTest, KnowsNothingBeforeTheCostsDo) {
  const StepCost nothing;
  const OverloadEstimator estimator(limits_, &nothing);
  EXPECT_FALSE(estimator.known());
  EXPECT_EQ(estimator.TtftMicros(*request_.state(), 0, {}), 0);
  EXPECT_EQ(estimator.ItlMicros(4, {}), 0);
}

TEST_F(OverloadEstimatorTest, TheFirstTokenComesAfterThePromptAndTheBacklog) {
  // Two steps of 10 ms, and 150 tokens.
  EXPECT_NEAR(estimator_.TtftMicros(*request_.state(), 0, {}), 170'000, 2'000);
  EXPECT_NEAR(estimator_.TtftMicros(*request_.state(), 100, {}), 60'000, 2'000);
  estimator_.AddBacklog(/*tokens=*/100, /*context=*/0);
  EXPECT_NEAR(estimator_.TtftMicros(*request_.state(), 0, {}), 280'000, 3'000);
  estimator_.ClearBacklog();
  EXPECT_NEAR(estimator_.TtftMicros(*request_.state(), 0, {}), 170'000, 2'000);
}

TEST_F(OverloadEstimatorTest, BesideDecodesAPromptHasAPartOfEachStep) {
  const std::vector<Sequence*> running = Running(2, absl::Seconds(1));
  // A stretch of two: as long for the decodes as for the prompt.
  EXPECT_NEAR(estimator_.TtftMicros(*request_.state(), 0, {running, 1}), 300'000, 3'000);
}

TEST_F(OverloadEstimatorTest, TokensTakeLongerWhileOthersWait) {
  EXPECT_NEAR(estimator_.ItlMicros(4, {.waiting = 1}), 14'000, 200);
  EXPECT_NEAR(estimator_.ItlMicros(4, {.waiting = 2}), 28'000, 400) << "prompts in between";
}

TEST_F(OverloadEstimatorTest, UnderOverloadWhoeverEndsIsFollowedByAnother) {
  estimator_.ObserveStart(*request_.state(), 0);  // 150 ms of prompt
  for (int i = 0; i < 1'000; ++i) estimator_.ObserveOutput(30, /*whole=*/true);
  estimator_.set_overloaded(true);
  EXPECT_EQ(estimator_.stretch(), 2.0 * policy::kOverloadStretch);
  // Four prompts over 30 tokens: 20 ms on top of 14.
  EXPECT_NEAR(estimator_.ItlMicros(4, {}), 34'000, 500);
  EXPECT_NEAR(estimator_.OverloadedItlMicros(4, 300'000), 39'000, 500);
}

TEST_F(OverloadEstimatorTest, AnOutputCutShortSaysOnlyThatOthersMayBeLonger) {
  for (int i = 0; i < 1'000; ++i) estimator_.ObserveOutput(3, /*whole=*/false);
  EXPECT_EQ(estimator_.TypicalTokens(*request_.state()), policy::kFirstOutputGuess);
  for (int i = 0; i < 1'000; ++i) estimator_.ObserveOutput(60, /*whole=*/false);
  EXPECT_NEAR(estimator_.TypicalTokens(*request_.state()), 60, 1);
  request_.state()->request.max_tokens = 5;
  EXPECT_EQ(estimator_.TypicalTokens(*request_.state()), 5);
}

TEST_F(OverloadEstimatorTest, TheItlBudgetIsWhatNearlyAllBear) {
  EXPECT_EQ(estimator_.ItlBudgetMicros({Running(2, absl::InfiniteDuration()), 0}, kNow), HUGE_VAL);
  for (int i = 0; i < 1'000; ++i) estimator_.ObserveOutput(21, /*whole=*/true);
  // 20 tokens left, in one second.
  EXPECT_NEAR(estimator_.ItlBudgetMicros({Running(3, absl::Seconds(1)), 0}, kNow), 50'000, 500);
  std::vector<Sequence*> running = Running(3, absl::Seconds(1));
  running.push_back(Running(1, absl::Milliseconds(50))[0]);
  EXPECT_NEAR(estimator_.ItlBudgetMicros({running, 0}, kNow), 50'000, 500)
      << "the fourth would be late if it were alone";
}

TEST_F(OverloadEstimatorTest, StepsThatTakeLongerThanExpectedStretchTheSum) {
  EXPECT_EQ(estimator_.StepsMicros(10'000, 10), 100'000);
  for (int i = 0; i < 500; ++i) {
    estimator_.ObserveStep({.decodes = 4}, 2 * cost_.PredictMicros({.decodes = 4}));
  }
  EXPECT_NEAR(estimator_.StepsMicros(10'000, 10), 200'000, 100);
}

}  // namespace
}  // namespace tessera::coordinator
