#include "coordinator/schedule/prompt_budget.h"

#include <cmath>

#include <gtest/gtest.h>

#include "coordinator/schedule/active_tenants.h"
#include "coordinator/schedule/scheduling_policy.h"
#include "coordinator/schedule/step_times.h"
#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::LearnedCost;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

TEST(PromptBudgetTest, OnlySeveralStagesShareAPromptOut) {
  SchedulerLimits limits = {.max_tokens_per_step = 512};
  EXPECT_EQ(PromptTokensOfStep(limits, LearnedCost(), 2'000), 512);
  limits.max_steps_in_flight = 2;
  EXPECT_EQ(PromptTokensOfStep(limits, LearnedCost(), 2'000), 250) << "eight steps";
  EXPECT_EQ(PromptTokensOfStep(limits, StepCost(), 2'000), 512) << "costs are unknown";
}

TEST(PromptBudgetTest, DecodesBearAFactor) {
  const StepCost cost = LearnedCost();
  EXPECT_NEAR(PromptMicrosOfStep(cost, {.decodes = 5, .stretch = 3}), 30'000, 500);
  EXPECT_EQ(PromptMicrosOfStep(StepCost(), {.decodes = 5, .stretch = 3}), HUGE_VAL);
}

TEST(PromptBudgetTest, WithoutDecodesTheyAreCutForAnotherTenantAlone) {
  const StepCost cost = LearnedCost();
  EXPECT_EQ(PromptMicrosOfStep(cost, {.tokens_left = 1'000}), HUGE_VAL);
  // Eight times the 10 ms that every step costs.
  EXPECT_NEAR(PromptMicrosOfStep(cost, {.tokens_left = 1'000, .other_tenant_active = true}), 80'000,
              2'000);
  EXPECT_EQ(PromptMicrosOfStep(cost, {.tokens_left = 100, .other_tenant_active = true}), HUGE_VAL)
      << "done soon";
}

TEST(ActiveTenantsTest, AnotherOneIsActiveForAWhile) {
  ActiveTenants active;
  EXPECT_FALSE(active.OtherThan(1, kNow));
  active.Add(2, kNow);
  EXPECT_TRUE(active.OtherThan(1, kNow));
  EXPECT_FALSE(active.OtherThan(2, kNow));
  active.Add(1, kNow + absl::Seconds(1));
  active.Add(1, kNow + absl::Seconds(2));
  EXPECT_TRUE(active.OtherThan(1, kNow + absl::Seconds(2))) << "2 is still remembered";
  EXPECT_FALSE(active.OtherThan(1, kNow + policy::kTenantActive));
  EXPECT_TRUE(active.OtherThan(2, kNow + policy::kTenantActive));
}

TEST(StepTimesTest, AStepsOwnTimeIsWhatDoesNotOverlapTheOneBefore) {
  StepTimes one(/*stages=*/1);
  EXPECT_EQ(one.OwnMicros(kNow, absl::Milliseconds(10)), 10'000);
  // Sent while the first was computed: begins when that has ended.
  EXPECT_EQ(one.OwnMicros(kNow + absl::Milliseconds(5), absl::Milliseconds(10)), 10'000);
  StepTimes two(/*stages=*/2);
  EXPECT_EQ(two.OwnMicros(kNow, absl::Milliseconds(20)), 20'000);
  // In the other stage at the same time: only its last 10 ms are its own.
  EXPECT_EQ(two.OwnMicros(kNow + absl::Milliseconds(10), absl::Milliseconds(20)), 10'000);
}

}  // namespace
}  // namespace tessera::coordinator
