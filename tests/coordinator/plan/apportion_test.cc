#include "coordinator/plan/apportion.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

std::vector<int> Sizes(const std::vector<Span>& spans) {
  std::vector<int> sizes;
  for (const Span& span : spans) sizes.push_back(span.size());
  return sizes;
}

TEST(ApportionTest, NineHeadsEvenly) {
  EXPECT_EQ(Sizes(Apportion(9, EvenWeights(1))), (std::vector<int>{9}));
  EXPECT_EQ(Sizes(Apportion(9, EvenWeights(2))), (std::vector<int>{5, 4}));
  EXPECT_EQ(Sizes(Apportion(9, EvenWeights(4))), (std::vector<int>{3, 2, 2, 2}));
  EXPECT_EQ(Sizes(Apportion(9, EvenWeights(9))), (std::vector<int>{1, 1, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(ApportionTest, Weighted) {
  EXPECT_EQ(Sizes(Apportion(9, {3, 1})), (std::vector<int>{7, 2}));
  EXPECT_EQ(Sizes(Apportion(8, {3, 1})), (std::vector<int>{6, 2}));
  EXPECT_EQ(Sizes(Apportion(10, {1, 1, 2})), (std::vector<int>{3, 2, 5}));
}

TEST(ApportionTest, NobodyGoesEmpty) {
  EXPECT_EQ(Sizes(Apportion(9, {1000, 1, 1})), (std::vector<int>{7, 1, 1}));
  EXPECT_EQ(Sizes(Apportion(3, {1, 1000, 1})), (std::vector<int>{1, 1, 1}));
  EXPECT_EQ(Sizes(Apportion(4, {1e308, 1e308, 1e-308})), (std::vector<int>{1, 2, 1}));
}

TEST(ApportionTest, CoversExactlyAndStaysNearTheShare) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 12);
    const int units = ranks + static_cast<int>(random() % 300);
    std::vector<double> weights;
    double sum = 0;
    for (int i = 0; i < ranks; ++i) {
      weights.push_back(std::exp(static_cast<double>(random() % 400) / 100));
      sum += weights.back();
    }
    const std::vector<Span> spans = Apportion(units, weights);
    ASSERT_EQ(spans.size(), weights.size());
    int next = 0;
    bool share_below_one = false;
    for (int i = 0; i < ranks; ++i) {
      const Span& span = spans[static_cast<size_t>(i)];
      ASSERT_EQ(span.begin, next);
      ASSERT_GE(span.size(), 1);
      next = span.end;
      share_below_one |= units * weights[static_cast<size_t>(i)] / sum < 1;
    }
    ASSERT_EQ(next, units);
    if (share_below_one) continue;
    // Quota rule: rounded down or up, never further.
    for (int i = 0; i < ranks; ++i) {
      const double share = units * weights[static_cast<size_t>(i)] / sum;
      ASSERT_LT(std::abs(spans[static_cast<size_t>(i)].size() - share), 1.0 + 1e-9);
    }
  }
}

}  // namespace
}  // namespace tessera::coordinator
