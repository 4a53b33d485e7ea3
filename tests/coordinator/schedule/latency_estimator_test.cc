#include "coordinator/schedule/latency_estimator.h"

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

TEST(RequestLatencyEstimatorTest, NothingSaysNothing) {
  RequestLatencyEstimator latency;
  const double before = latency.cautious();
  latency.Observe(0, 5);
  latency.Observe(5, 0);
  latency.Observe(-1, 5);
  EXPECT_EQ(latency.mean(), 1);
  EXPECT_EQ(latency.cautious(), before);
}

TEST(RequestLatencyEstimatorTest, LearnsHowMuchLongerThingsTake) {
  RequestLatencyEstimator latency;
  for (int i = 0; i < 400; ++i) latency.Observe(10, 20);
  EXPECT_NEAR(latency.mean(), 2, 0.01);
  EXPECT_NEAR(latency.cautious(), 2, 0.1);
}

TEST(RequestLatencyEstimatorTest, IsCarefulWhereTheyTakeUnevenlyLong) {
  RequestLatencyEstimator latency;
  for (int i = 0; i < 400; ++i) latency.Observe(10, i % 10 == 0 ? 30 : 10);
  EXPECT_LT(latency.mean(), 1.6);
  EXPECT_GT(latency.cautious(), 2);
}

TEST(RequestLatencyEstimatorTest, OneThatTookForEverIsOnlySoMuch) {
  RequestLatencyEstimator latency;
  latency.Observe(1, 1e12);
  EXPECT_LE(latency.mean(), 2.2);
}

TEST(StepLatencyEstimatorTest, NothingSaysNothing) {
  StepLatencyEstimator latency;
  latency.Observe(0, 5);
  latency.Observe(5, -1);
  EXPECT_EQ(latency.Micros(10, 4, 2), 40);
  EXPECT_EQ(latency.Micros(10, -1, 2), 0);
}

TEST(StepLatencyEstimatorTest, ManyStepsTakeTheMeanMoreSurelyThanFew) {
  StepLatencyEstimator latency;
  for (int i = 0; i < 1000; ++i) latency.Observe(10, i % 10 == 0 ? 80 : 10);
  EXPECT_NEAR(latency.Micros(10, 100, 0), 1700, 100);
  EXPECT_NEAR(latency.Micros(10, 1, 1), 17 + 21, 2);
  EXPECT_NEAR(latency.Micros(10, 100, 1), 1700 + 210, 100);
}

TEST(StepLatencyEstimatorTest, SoonForgetsTheMachineThatWas) {
  StepLatencyEstimator latency;
  for (int i = 0; i < 1000; ++i) latency.Observe(10, 30);
  for (int i = 0; i < 1000; ++i) latency.Observe(10, 10);
  EXPECT_NEAR(latency.Micros(10, 10, 0), 100, 5);
}

}  // namespace
}  // namespace tessera::coordinator
