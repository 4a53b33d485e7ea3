#include "coordinator/schedule/latency_estimator.h"

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

TEST(RequestLatencyEstimatorTest, NothingSaysNothing) {
  RequestLatencyEstimator pace;
  const double before = pace.cautious();
  pace.Observe(0, 5);
  pace.Observe(5, 0);
  pace.Observe(-1, 5);
  EXPECT_EQ(pace.mean(), 1);
  EXPECT_EQ(pace.cautious(), before);
}

TEST(RequestLatencyEstimatorTest, LearnsHowMuchLongerThingsTake) {
  RequestLatencyEstimator pace;
  for (int i = 0; i < 400; ++i) pace.Observe(10, 20);
  EXPECT_NEAR(pace.mean(), 2, 0.01);
  EXPECT_NEAR(pace.cautious(), 2, 0.1);
}

TEST(RequestLatencyEstimatorTest, IsCarefulWhereTheyTakeUnevenlyLong) {
  RequestLatencyEstimator pace;
  for (int i = 0; i < 400; ++i) pace.Observe(10, i % 10 == 0 ? 30 : 10);
  EXPECT_LT(pace.mean(), 1.6);
  EXPECT_GT(pace.cautious(), 2);
}

TEST(RequestLatencyEstimatorTest, OneThatTookForEverIsOnlySoMuch) {
  RequestLatencyEstimator pace;
  pace.Observe(1, 1e12);
  EXPECT_LE(pace.mean(), 2.2);
}

TEST(StepLatencyEstimatorTest, NothingSaysNothing) {
  StepLatencyEstimator noise;
  noise.Observe(0, 5);
  noise.Observe(5, -1);
  EXPECT_EQ(noise.Micros(10, 4, 2), 40);
  EXPECT_EQ(noise.Micros(10, -1, 2), 0);
}

TEST(StepLatencyEstimatorTest, ManyStepsTakeTheMeanMoreSurelyThanFew) {
  StepLatencyEstimator noise;
  for (int i = 0; i < 1000; ++i) noise.Observe(10, i % 10 == 0 ? 80 : 10);
  EXPECT_NEAR(noise.Micros(10, 100, 0), 1700, 100);
  EXPECT_NEAR(noise.Micros(10, 1, 1), 17 + 21, 2);
  EXPECT_NEAR(noise.Micros(10, 100, 1), 1700 + 210, 100);
}

TEST(StepLatencyEstimatorTest, SoonForgetsTheMachineThatWas) {
  StepLatencyEstimator noise;
  for (int i = 0; i < 1000; ++i) noise.Observe(10, 30);
  for (int i = 0; i < 1000; ++i) noise.Observe(10, 10);
  EXPECT_NEAR(noise.Micros(10, 10, 0), 100, 5);
}

}  // namespace
}  // namespace tessera::coordinator
