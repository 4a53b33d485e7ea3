#include "benchmarks/serving/length_distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>

namespace tessera::benchmarks {
namespace {

using ::testing::HasSubstr;

LengthDistribution Parse(const std::string& spec) {
  auto lengths = LengthDistribution::Parse(spec);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  return *std::move(lengths);
}

std::map<int, int> Counts(const LengthDistribution& lengths, int draws) {
  std::map<int, int> counts;
  Random random({1});
  for (int i = 0; i < draws; ++i) ++counts[lengths.Draw(random)];
  return counts;
}

TEST(LengthDistribution, FixedIsAlwaysTheSame) {
  EXPECT_THAT(Counts(Parse("fixed:7"), 100), ::testing::ElementsAre(::testing::Pair(7, 100)));
}

TEST(LengthDistribution, UniformReachesBothEndsAndNothingElse) {
  const auto counts = Counts(Parse("uniform:3-5"), 3000);
  EXPECT_THAT(counts, ::testing::ElementsAre(::testing::Pair(3, ::testing::Gt(850)),
                                             ::testing::Pair(4, ::testing::Gt(850)),
                                             ::testing::Pair(5, ::testing::Gt(850))));
}

TEST(LengthDistribution, LognormalHasTheMeanItNames) {
  const LengthDistribution lengths = Parse("lognormal:200,0.8");
  Random random({2});
  double sum = 0.0, sum_of_logs = 0.0, sum_of_squares = 0.0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double length = lengths.Draw(random);
    sum += length;
    sum_of_logs += std::log(length);
    sum_of_squares += std::log(length) * std::log(length);
  }
  EXPECT_NEAR(sum / kDraws, 200.0, 2.0);
  const double mu = sum_of_logs / kDraws;
  EXPECT_NEAR(std::sqrt(sum_of_squares / kDraws - mu * mu), 0.8, 0.01);
}

TEST(LengthDistribution, LognormalKeepsItsBounds) {
  const auto counts = Counts(Parse("lognormal:10,3,50"), 5000);
  EXPECT_EQ(counts.begin()->first, 1);
  EXPECT_EQ(counts.rbegin()->first, 50);
}

TEST(LengthDistribution, HistogramKeepsItsWeights) {
  auto lengths =
      LengthDistribution::FromHistogram("# tokens weight\n10 1\n\n20, 3 # most\n30 0\n", "h");
  ASSERT_TRUE(lengths.ok()) << lengths.status();
  const auto counts = Counts(*lengths, 4000);
  ASSERT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts.at(10), 1000, 120);
  EXPECT_NEAR(counts.at(20), 3000, 120);
}

TEST(LengthDistribution, HistogramIsReadFromItsFile) {
  const std::string path = ::testing::TempDir() + "/lengths.txt";
  std::ofstream(path) << "42 1\n";
  EXPECT_THAT(Counts(Parse("file:" + path), 10), ::testing::ElementsAre(::testing::Pair(42, 10)));
  std::remove(path.c_str());
  EXPECT_EQ(LengthDistribution::Parse("file:" + path).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LengthDistribution::Parse("file:/").status().code(), absl::StatusCode::kNotFound);
}

TEST(LengthDistribution, BadHistogramsNameTheLine) {
  const auto message = [](const char* text) {
    return std::string(LengthDistribution::FromHistogram(text, "h.txt").status().message());
  };
  EXPECT_THAT(message("10 1\n20\n"), HasSubstr("h.txt:2"));
  EXPECT_THAT(message("0 1\n"), HasSubstr("h.txt:1"));
  EXPECT_THAT(message("10 -1\n"), HasSubstr("h.txt:1"));
  EXPECT_THAT(message("10 nan\n"), HasSubstr("h.txt:1"));
  EXPECT_THAT(message("10 1e308\n20 1e308\n"), HasSubstr("h.txt"));
  EXPECT_THAT(message(""), HasSubstr("no length"));
  EXPECT_THAT(message("5 0\n"), HasSubstr("no length"));
}

TEST(LengthDistribution, BadSpecsAreRefused) {
  for (const char* spec : {"",
                           "fixed",
                           "fixed:",
                           "fixed:0",
                           "fixed:-3",
                           "fixed:1.5",
                           "fixed:1000001",
                           "uniform:5",
                           "uniform:5-4",
                           "uniform:0-4",
                           "uniform:1-",
                           "lognormal:10",
                           "lognormal:10,x",
                           "lognormal:0.5,1",
                           "lognormal:nan,1",
                           "lognormal:10,-1",
                           "lognormal:10,inf",
                           "lognormal:10,1,0",
                           "lognormal:10,1,2,3",
                           "normal:3,4"}) {
    const auto status = LengthDistribution::Parse(spec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << spec;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("'") + spec + "'"));
  }
}

TEST(Random, StreamsAreFixedAndDifferent) {
  // Written down once: a change would make old and new reports incomparable.
  EXPECT_EQ(Random({1}).Next(), Random({1}).Next());
  EXPECT_NE(Random({1}).Next(), Random({2}).Next());
  EXPECT_NE(Random({1, 2}).Next(), Random({2, 1}).Next());
  EXPECT_NE(Random({0}).Next(), Random({0, 0}).Next());
  Random random({3});
  double sum = 0.0;
  for (int i = 0; i < 100000; ++i) sum += random.Exponential(4.0);
  EXPECT_NEAR(sum / 100000, 0.25, 0.005);
}

}  // namespace
}  // namespace tessera::benchmarks
