#include "coordinator/schedule/step_cost.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace tessera::coordinator {
namespace {

// A machine: what steps truly take.
struct Machine {
  double base = 2000;
  double per_decode = 500;
  double per_prefill = 300;
  double per_attended = 0;

  double Micros(const StepShape& shape) const {
    return base + per_decode * shape.decodes + per_prefill * shape.prefill_tokens +
           per_attended * static_cast<double>(shape.attended);
  }
};

void Learn(StepCost& cost, const Machine& machine, int steps, std::mt19937& random,
           double noise = 0) {
  for (int i = 0; i < steps; ++i) {
    StepShape shape;
    shape.decodes = static_cast<int>(random() % 17);
    shape.prefill_tokens = random() % 3 == 0 ? static_cast<int>(random() % 512) : 0;
    if (machine.per_attended > 0) {
      shape.attended = Attended(shape.prefill_tokens, static_cast<int>(random() % 5000));
    }
    const double factor = 1 + noise * (static_cast<double>(random() % 2001) / 1000 - 1);
    cost.Observe(shape, std::llround(machine.Micros(shape) * factor));
  }
}

// Tokens of a prompt, behind `context` others, beside decodes: as the scheduler asks, at least one.
int PrefillAllowance(const StepCost& cost, int decodes, double stretch, int context = 0) {
  return std::max(1, cost.PromptTokens(cost.PrefillMicros(decodes, stretch), context));
}

TEST(StepCostTest, KnowsNothingAtFirst) {
  StepCost cost;
  EXPECT_FALSE(cost.known());
  EXPECT_EQ(cost.PredictMicros({.decodes = 8, .prefill_tokens = 100}), 0);
  EXPECT_EQ(PrefillAllowance(cost, 8, 2), INT_MAX);
  for (int i = 0; i < 100; ++i) cost.Observe({.decodes = 8, .prefill_tokens = 0}, 5000);
  EXPECT_FALSE(cost.known());  // nobody has seen what prompts cost
  EXPECT_EQ(PrefillAllowance(cost, 8, 2), INT_MAX);
}

TEST(StepCostTest, AStepIsWorthItWithEightTimesItsOwnCost) {
  std::mt19937 random(1);
  StepCost cost;
  EXPECT_EQ(cost.WorthAStep(), 0);
  Learn(cost, {.base = 3000, .per_prefill = 300}, 60, random);
  EXPECT_NEAR(cost.WorthAStep(), 80, 1);
}

TEST(StepCostTest, LearnsALinearMachineExactly) {
  std::mt19937 random(1);
  StepCost cost;
  const Machine machine;
  Learn(cost, machine, 60, random);
  ASSERT_TRUE(cost.known());
  for (const StepShape shape : {StepShape{8, 0}, StepShape{0, 512}, StepShape{16, 100}}) {
    EXPECT_NEAR(cost.PredictMicros(shape) / machine.Micros(shape), 1, 0.001);
  }
  // 2 × (2000 + 8 × 500) leaves 6000 for prompts: 20 tokens.
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), 20, 1);
  EXPECT_NEAR(PrefillAllowance(cost, 8, 3.0), 40, 1);
  EXPECT_EQ(PrefillAllowance(cost, 8, 1.0), 1);
  EXPECT_EQ(PrefillAllowance(cost, 8, 0.0), 1);
  EXPECT_EQ(PrefillAllowance(cost, 0, 2.0), INT_MAX);
}

TEST(StepCostTest, LearnsWhatAttentionCosts) {
  std::mt19937 random(9);
  StepCost cost;
  Machine machine;
  machine.per_attended = 0.5;
  Learn(cost, machine, 200, random, 0.02);
  for (const StepShape shape : {StepShape{8, 0}, StepShape{8, 100, Attended(100, 4000)},
                                StepShape{0, 512, Attended(512, 0)}}) {
    EXPECT_NEAR(cost.PredictMicros(shape) / machine.Micros(shape), 1, 0.05);
  }
  // 6000 for prompts: at 300 each, and at 300 + 0.5 × 4000.
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), 20, 1);
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0, 4000), 2, 1);
  const int many = cost.PromptTokens(1e6, 4000);
  EXPECT_LE(cost.PromptMicros(many, 4000), 1e6);
  EXPECT_GT(cost.PromptMicros(many + 1, 4000), 1e6);
}

TEST(StepCostTest, PromptsThatAreAllAlikeSayNothingOfAttention) {
  StepCost cost;
  for (int i = 0; i < 50; ++i) {
    cost.Observe({8, 0}, 6'000);
    cost.Observe({8, 20, Attended(20, 0)}, 12'000);
  }
  EXPECT_EQ(PrefillAllowance(cost, 8, 2.0), 20);
  EXPECT_EQ(PrefillAllowance(cost, 8, 2.0, 4000), 20);
}

TEST(StepCostTest, NoiseAveragesOut) {
  std::mt19937 random(2);
  StepCost cost;
  const Machine machine;
  Learn(cost, machine, 400, random, 0.2);
  for (const StepShape shape : {StepShape{8, 0}, StepShape{0, 512}, StepShape{16, 100}}) {
    EXPECT_NEAR(cost.PredictMicros(shape) / machine.Micros(shape), 1, 0.1);
  }
}

TEST(StepCostTest, ASingleOutlierChangesLittle) {
  std::mt19937 random(3);
  const Machine machine;
  for (const int64_t outlier : {int64_t{1}, int64_t{10'000'000}}) {
    StepCost cost;
    Learn(cost, machine, 100, random, 0.02);
    const int before = PrefillAllowance(cost, 8, 2.0);
    const double predicted = cost.PredictMicros({.decodes = 8, .prefill_tokens = 0});
    cost.Observe({.decodes = 8, .prefill_tokens = 0}, outlier);
    EXPECT_NEAR(cost.PredictMicros({.decodes = 8, .prefill_tokens = 0}) / predicted, 1, 0.03);
    EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), before, 2);
  }
}

TEST(StepCostTest, AFirstStepThatTookForeverDoesNotCount) {
  std::mt19937 random(4);
  StepCost cost;
  const Machine machine;
  cost.Observe({.decodes = 0, .prefill_tokens = 30}, 5'000'000);
  Learn(cost, machine, 40, random);
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), 20, 2);
}

TEST(StepCostTest, AMachineThatGotSlowerIsLearned) {
  std::mt19937 random(5);
  StepCost cost;
  Learn(cost, {}, 300, random, 0.02);
  const Machine slower = {.base = 2000, .per_decode = 500, .per_prefill = 1200};
  Learn(cost, slower, 300, random, 0.02);
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), 5, 1);
  EXPECT_NEAR(cost.PredictMicros({0, 512}) / slower.Micros({0, 512}), 1, 0.05);
}

TEST(StepCostTest, HoursWithoutPromptsDoNotForgetWhatPromptsCost) {
  std::mt19937 random(6);
  StepCost cost;
  Learn(cost, {}, 100, random);
  for (int i = 0; i < 200'000; ++i) cost.Observe({.decodes = 8, .prefill_tokens = 0}, 6000);
  EXPECT_NEAR(PrefillAllowance(cost, 8, 2.0), 20, 1);
}

TEST(StepCostTest, CoefficientsAreNeverNegative) {
  std::mt19937 random(7);
  StepCost cost;
  // Larger steps are faster here: nonsense that a real machine shows for a while.
  for (int i = 0; i < 200; ++i) {
    const int decodes = 1 + static_cast<int>(random() % 16);
    const int prefill = i % 2 == 0 ? 0 : static_cast<int>(random() % 300);
    cost.Observe({decodes, prefill}, 50'000 - 1000 * decodes - 50 * prefill);
  }
  ASSERT_TRUE(cost.known());
  EXPECT_GE(cost.PredictMicros({64, 0}), cost.PredictMicros({1, 0}));
  EXPECT_GE(cost.PredictMicros({1, 500}), cost.PredictMicros({1, 0}));
  EXPECT_GT(cost.PredictMicros({1, 0}), 0);
  EXPECT_GE(PrefillAllowance(cost, 8, 2.0), 1);
}

TEST(StepCostTest, NonsenseIsNotObserved) {
  std::mt19937 random(8);
  StepCost cost;
  Learn(cost, {}, 60, random);
  const double before = cost.PredictMicros({8, 64});
  cost.Observe({8, 0}, 0);
  cost.Observe({8, 0}, -5);
  cost.Observe({0, 0}, 1000);
  cost.Observe({-1, 5}, 1000);
  cost.Observe({5, -1}, 1000);
  EXPECT_EQ(cost.PredictMicros({8, 64}), before);
}

TEST(StepCostTest, OneShapeAloneIsPredictedAsItWas) {
  StepCost cost;
  for (int i = 0; i < 10; ++i) {
    cost.Observe({.decodes = 0, .prefill_tokens = 512}, 90'000);
    cost.Observe({.decodes = 4, .prefill_tokens = 0}, 9'000);
  }
  ASSERT_TRUE(cost.known());
  EXPECT_NEAR(cost.PredictMicros({0, 512}), 90'000, 100);
  EXPECT_NEAR(cost.PredictMicros({4, 0}), 9'000, 10);
}

}  // namespace
}  // namespace tessera::coordinator
