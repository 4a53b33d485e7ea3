#include "coordinator/plan/layer_split.h"

#include <algorithm>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

int64_t Cost(const std::vector<int64_t>& costs, const Span& span) {
  int64_t sum = 0;
  for (int i = span.begin; i < span.end; ++i) sum += costs[static_cast<size_t>(i)];
  return sum;
}

int64_t SlowestStage(const std::vector<int64_t>& costs, const std::vector<Span>& spans) {
  int64_t slowest = 0;
  for (const Span& span : spans) slowest = std::max(slowest, Cost(costs, span));
  return slowest;
}

// Every split there is.
int64_t BruteForce(const std::vector<int64_t>& costs, int begin, int stages) {
  const int layers = static_cast<int>(costs.size());
  if (stages == 1) return Cost(costs, {begin, layers});
  int64_t best = std::numeric_limits<int64_t>::max();
  for (int end = begin + 1; end <= layers - (stages - 1); ++end) {
    best = std::min(best, std::max(Cost(costs, {begin, end}), BruteForce(costs, end, stages - 1)));
  }
  return best;
}

void ExpectPartition(const std::vector<Span>& spans, int layers, int stages) {
  ASSERT_EQ(spans.size(), static_cast<size_t>(stages));
  int next = 0;
  for (const Span& span : spans) {
    ASSERT_EQ(span.begin, next);
    ASSERT_GE(span.size(), 1);
    next = span.end;
  }
  ASSERT_EQ(next, layers);
}

TEST(LayerSplitTest, AsGoodAsTheBestOfAllSplits) {
  std::mt19937 random(2);
  for (int round = 0; round < 3000; ++round) {
    const int layers = 1 + static_cast<int>(random() % 9);
    const int stages = 1 + static_cast<int>(random() % static_cast<unsigned>(layers));
    std::vector<int64_t> costs;
    for (int i = 0; i < layers; ++i) costs.push_back(static_cast<int64_t>(random() % 20));
    const std::vector<Span> spans = SplitByCost(costs, stages);
    ExpectPartition(spans, layers, stages);
    ASSERT_EQ(SlowestStage(costs, spans), BruteForce(costs, 0, stages));
  }
}

TEST(LayerSplitTest, EqualLayersStayEven) {
  const std::vector<int64_t> costs(10, 7);
  const std::vector<Span> spans = SplitByCost(costs, 4);
  ExpectPartition(spans, 10, 4);
  for (const Span& span : spans) {
    EXPECT_GE(span.size(), 2);
    EXPECT_LE(span.size(), 3);
  }
}

TEST(LayerSplitTest, AHeavyHeadTakesLayersFromTheLastStage) {
  std::vector<int64_t> costs(30, 10);
  costs.back() += 80;
  const std::vector<Span> spans = SplitByCost(costs, 2);
  EXPECT_EQ(spans[0].size(), 19);
  EXPECT_EQ(spans[1].size(), 11);
}

TEST(LayerSplitTest, ManyHugeLayers) {
  const std::vector<int64_t> costs(10'000, int64_t{1} << 48);
  const std::vector<Span> spans = SplitByCost(costs, 9'999);
  ExpectPartition(spans, 10'000, 9'999);
  EXPECT_EQ(SlowestStage(costs, spans), int64_t{1} << 49);
}

}  // namespace
}  // namespace tessera::coordinator
