#include "coordinator/schedule/deadline_admission.h"

#include <deque>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::LearnedCost;
using tessera::testing::MadeRequest;
using tessera::testing::Prompt;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

class DeadlineAdmissionTest : public ::testing::Test {
 protected:
  MadeRequest& Made(int prompt_tokens, absl::Duration left) {
    const int32_t id = static_cast<int32_t>(requests_.size()) + 1;
    MadeRequest& request = requests_.emplace_back(id, Prompt(id, prompt_tokens));
    request.state()->request.max_tokens = 1;
    request.state()->request.deadline = kNow + left;
    request.state()->added_at = kNow;
    return request;
  }

  static SchedulerLimits Limits(SchedulingPolicy policy) {
    return {.num_blocks = 1'000,
            .max_tokens_per_step = 100,
            .max_sequences_per_step = 8,
            .policy = policy};
  }

  const SchedulerLimits limits_ = Limits(SchedulingPolicy::kFcfs);
  const StepCost cost_ = LearnedCost();
  KvCacheManager cache_{limits_};
  OverloadEstimator estimator_{limits_, &cost_};
  DeadlineAdmission admission_{limits_, &cache_, &estimator_};
  std::deque<MadeRequest> requests_;
};

TEST_F(DeadlineAdmissionTest, WhatTakesLongerThanIsLeftIsTooLate) {
  // Three steps of 10 ms, 250 tokens, and one more of 11 ms.
  EXPECT_TRUE(admission_.IsTooLate(*Made(250, absl::Milliseconds(270)).state(), {}, kNow));
  EXPECT_FALSE(admission_.IsTooLate(*Made(250, absl::Milliseconds(310)).state(), {}, kNow));
  EXPECT_FALSE(admission_.IsTooLate(*Made(250, absl::InfiniteDuration()).state(), {}, kNow));
}

TEST_F(DeadlineAdmissionTest, OneThatRunsHasUntilItsDeadline) {
  MadeRequest& request = Made(250, absl::Milliseconds(270));
  request.state()->admitted = true;
  EXPECT_EQ(admission_.CheckAt(*request.state(), {}), request.state()->request.deadline);
}

TEST_F(DeadlineAdmissionTest, WhileOthersWaitItIsMoreCareful) {
  MadeRequest& request = Made(250, absl::Seconds(10));
  EXPECT_LT(admission_.CheckAt(*request.state(), {.waiting = 2}),
            admission_.CheckAt(*request.state(), {.waiting = 1}));
}

TEST_F(DeadlineAdmissionTest, AQueueThatTakesLongerThanTheDeadlineRefuses) {
  EXPECT_EQ(admission_.CheckTurn(kNow + absl::Seconds(1), 1'000, kNow), absl::OkStatus())
      << "nobody has waited yet";
  // They begin every 100 ms while others wait.
  absl::Time now = kNow;
  for (int i = 0; i < 300; ++i) {
    admission_.Begin(Made(1, absl::Seconds(1'000)).state(), 0, {.waiting = 2}, now);
    now += absl::Milliseconds(100);
  }
  EXPECT_EQ(admission_.CheckTurn(now + absl::Seconds(1), 9, now), absl::OkStatus());
  const absl::Status refused = admission_.CheckTurn(now + absl::Seconds(1), 50, now);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("50 requests wait"));
  EXPECT_EQ(admission_.CheckTurn(absl::InfiniteFuture(), 50, now), absl::OkStatus());
  EXPECT_EQ(admission_.CheckTurn(now, 50, now), absl::OkStatus()) << "late, by no queue's fault";
}

TEST_F(DeadlineAdmissionTest, OverloadLastsAWhileAndOnlyAmongOnesOwn) {
  admission_.UpdateOverload(/*other_tenant_active=*/false, kNow);
  EXPECT_FALSE(estimator_.overloaded());
  admission_.WasTooLate(kNow);
  admission_.UpdateOverload(/*other_tenant_active=*/true, kNow);
  EXPECT_FALSE(estimator_.overloaded());
  admission_.UpdateOverload(/*other_tenant_active=*/false, kNow);
  EXPECT_TRUE(estimator_.overloaded());
  admission_.UpdateOverload(/*other_tenant_active=*/false, kNow + policy::kOverloadLasts);
  EXPECT_FALSE(estimator_.overloaded());
}

TEST_F(DeadlineAdmissionTest, NoOverloadByPriority) {
  DeadlineAdmission admission(Limits(SchedulingPolicy::kPriority), &cache_, &estimator_);
  admission.WasTooLate(kNow);
  admission.UpdateOverload(/*other_tenant_active=*/false, kNow);
  EXPECT_FALSE(estimator_.overloaded());
}

TEST_F(DeadlineAdmissionTest, UnderOverloadNobodyBeginsAtTheCostOfThoseThatRun) {
  MadeRequest& runs = Made(10, absl::Milliseconds(330));
  runs.state()->request.max_tokens = 30;
  runs.Decodes();
  std::vector<Sequence*> running = {runs.sequence()};
  MadeRequest& next = Made(100, absl::Seconds(20));
  next.state()->request.max_tokens = 30;
  // 30 tokens to go: 11 ms each alone; with another, and its prompt in between, 12 ms and more.
  EXPECT_TRUE(admission_.MayBegin(*next.state(), {running, 1}, kNow)) << "no overload";
  admission_.WasTooLate(kNow);
  admission_.UpdateOverload(/*other_tenant_active=*/false, kNow);
  EXPECT_FALSE(admission_.MayBegin(*next.state(), {running, 1}, kNow));
  EXPECT_TRUE(admission_.MayBegin(*next.state(), {{}, 1}, kNow)) << "alone";
  runs.state()->request.deadline = kNow + absl::Seconds(20);
  admission_.UpdateOverload(/*other_tenant_active=*/false, kNow);  // the next step
  EXPECT_TRUE(admission_.MayBegin(*next.state(), {running, 1}, kNow)) << "both have time";
  next.state()->request.deadline = kNow + absl::Milliseconds(200);
  EXPECT_FALSE(admission_.MayBegin(*next.state(), {running, 1}, kNow)) << "it has not";
}

TEST_F(DeadlineAdmissionTest, LearnsHowMuchLongerRequestsTake) {
  MadeRequest& request = Made(100, absl::Seconds(20));
  admission_.Begin(request.state(), 0, {.waiting = 1}, kNow);
  const double expected =
      request.state()->expected_prompt_micros + request.state()->expected_token_micros;
  request.Decodes();
  admission_.Ended(*request.sequence());
  EXPECT_EQ(estimator_.request_latency().mean(), 1) << "when, only the next step knows";
  admission_.LearnEnded({}, kNow + absl::Microseconds(3 * expected));
  EXPECT_NEAR(estimator_.request_latency().mean(), 1 + 2 * policy::kLatencyRise, 0.01);
}

}  // namespace
}  // namespace tessera::coordinator
