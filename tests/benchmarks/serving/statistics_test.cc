#include "benchmarks/serving/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tessera::benchmarks {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(Summarize, NothingIsAllZero) {
  const Summary summary = Summarize({});
  EXPECT_EQ(summary.count, 0u);
  EXPECT_EQ(summary.mean, 0.0);
  EXPECT_EQ(summary.p99, 0.0);
}

TEST(Summarize, OneSampleIsEveryQuantile) {
  const Summary summary = Summarize({4.5});
  EXPECT_EQ(summary.count, 1u);
  for (double value : {summary.mean, summary.p50, summary.p95, summary.p99, summary.max}) {
    EXPECT_EQ(value, 4.5);
  }
}

TEST(Summarize, QuantilesLieBetweenRanksAsNumpysDo) {
  // numpy.percentile([1, 2, 3, 4, 10], [50, 95, 99]) = 3, 8.8, 9.76
  const Summary summary = Summarize({10, 3, 1, 4, 2});
  EXPECT_DOUBLE_EQ(summary.mean, 4.0);
  EXPECT_DOUBLE_EQ(summary.p50, 3.0);
  EXPECT_NEAR(summary.p95, 8.8, 1e-12);
  EXPECT_NEAR(summary.p99, 9.76, 1e-12);
  EXPECT_EQ(summary.max, 10.0);
  EXPECT_DOUBLE_EQ(Summarize({1, 2}).p50, 1.5);
}

TEST(CumulativeShare, RisesToOne) {
  EXPECT_THAT(CumulativeShare({}, 10), ElementsAre());
  EXPECT_THAT(CumulativeShare({5}, 10), ElementsAre(Pair(5, 1)));
  EXPECT_THAT(CumulativeShare({4, 1, 3, 2}, 10),
              ElementsAre(Pair(1, 0.25), Pair(2, 0.5), Pair(3, 0.75), Pair(4, 1)));
}

TEST(CumulativeShare, KeepsBothEndsOfManySamples) {
  std::vector<double> values;
  for (int i = 1; i <= 100000; ++i) values.push_back(i);
  const auto points = CumulativeShare(values, 50);
  ASSERT_EQ(points.size(), 50u);
  EXPECT_THAT(points.front(), Pair(1, 1e-5));
  EXPECT_THAT(points.back(), Pair(100000, 1));
  EXPECT_THAT(CumulativeShare(values, 1), ElementsAre(Pair(100000, 1)));
}

}  // namespace
}  // namespace tessera::benchmarks
