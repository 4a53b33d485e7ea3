#include "coordinator/router/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/router/prefix_index.h"

namespace tessera::coordinator {
namespace {

using ::testing::SizeIs;

EngineLoad Load(int live, int64_t waiting_tokens = 0) {
  return {.live = live,
          .slots = 16,
          .waiting_tokens = waiting_tokens,
          .step_micros = 10'000,
          .decode_micros = 500,
          .prompt_token_micros = 100};
}

constexpr RequestShape kChat = {.prompt_tokens = 1'000, .output_tokens = 100};

TEST(Placement, OfEqualsTheFirst) {
  EXPECT_EQ(Best({{.load = Load(0)}, {.load = Load(0)}}, kChat), 0u);
  EXPECT_EQ(Best({{}, {}}, kChat), 0u);
}

TEST(Placement, FewerStreamsAndShorterQueuesWin) {
  EXPECT_EQ(Best({{.load = Load(4)}, {.load = Load(3)}}, kChat), 1u);
  EXPECT_EQ(Best({{.load = Load(4, 5'000)}, {.load = Load(4)}}, kChat), 1u);
  EXPECT_EQ(Best({{.load = Load(17)}, {.load = Load(15)}}, kChat), 1u);
}

TEST(Placement, ACachedPrefixOutweighsAFewStreamsAndNotAQueue) {
  EXPECT_EQ(Best({{.load = Load(0)}, {.load = Load(1), .cached_tokens = 992}}, kChat), 1u);
  EXPECT_EQ(Best({{.load = Load(0)}, {.load = Load(1, 5'000), .cached_tokens = 992}}, kChat), 0u);
  EXPECT_EQ(Best({{.load = Load(0)}, {.load = Load(15), .cached_tokens = 32}}, kChat), 0u);
}

TEST(Placement, AGroupWithoutMeasuredStepsIsTriedToo) {
  EXPECT_EQ(Best({{.load = Load(8)}, {.load = {.slots = 16}}}, kChat), 1u);
}

std::vector<int32_t> Tokens(int count, int first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PrefixIndex, FindsTheLongestBeginning) {
  PrefixIndex index(100);
  index.Add(PrefixHashes("a", Tokens(100)));
  EXPECT_EQ(index.Match(PrefixHashes("a", Tokens(100))), 96);
  EXPECT_EQ(index.Match(PrefixHashes("a", Tokens(70))), 64);
  EXPECT_EQ(index.Match(PrefixHashes("a", Tokens(31))), 0);
  std::vector<int32_t> other_end = Tokens(100);
  other_end[40] = -1;
  EXPECT_EQ(index.Match(PrefixHashes("a", other_end)), 32);
  EXPECT_EQ(index.Match(PrefixHashes("a", Tokens(100, 1))), 0);
}

TEST(PrefixIndex, EachTenantHasItsOwn) {
  PrefixIndex index(100);
  index.Add(PrefixHashes("a", Tokens(64)));
  EXPECT_EQ(index.Match(PrefixHashes("b", Tokens(64))), 0);
}

TEST(PrefixIndex, ForgetsTheEndsOfWhatWasUsedLongestAgo) {
  PrefixIndex index(4);
  const auto first = PrefixHashes("", Tokens(96)), second = PrefixHashes("", Tokens(64, 1'000));
  ASSERT_THAT(first, SizeIs(3));
  index.Add(first);
  index.Add(second);
  EXPECT_EQ(index.Match(first), 64);
  EXPECT_EQ(index.Match(second), 64);
  index.Add(first);
  EXPECT_EQ(index.Match(first), 96);
  EXPECT_EQ(index.Match(second), 32);
}

}  // namespace
}  // namespace tessera::coordinator
