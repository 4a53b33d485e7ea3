#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

// A paged cache of its own with every sequence's blocks scattered over it, and random contents.
struct Paged {
  KvCacheView view;
  std::vector<float> keys;
  std::vector<float> values;

  Paged(int num_blocks, int num_kv_heads, int block_tokens, int head_dim, std::mt19937& random) {
    const int64_t floats = int64_t{num_blocks} * num_kv_heads * block_tokens * head_dim;
    keys = RandomFloats(floats, random);
    values = RandomFloats(floats, random);
    view = {keys.data(), values.data(), num_blocks, num_kv_heads, block_tokens, head_dim};
  }
};

std::vector<int32_t> ShuffledBlocks(int count, std::mt19937& random) {
  std::vector<int32_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), random);
  return blocks;
}

struct Case {
  int head_dim = 64;
  std::vector<int32_t> kv_head_of;
  int sliding_window = 0;
  int block_tokens = 16;

  int num_kv_heads() const { return *std::max_element(kv_head_of.begin(), kv_head_of.end()) + 1; }
  AttentionShape shape() const {
    return {.num_q_heads = static_cast<int>(kv_head_of.size()),
            .num_kv_heads = num_kv_heads(),
            .head_dim = head_dim,
            .kv_head_of = kv_head_of.data(),
            .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
            .sliding_window = sliding_window};
  }
  std::string name() const {
    return absl::StrCat("head_dim ", head_dim, ", ", kv_head_of.size(), " heads over ",
                        num_kv_heads(), ", window ", sliding_window, ", blocks of ", block_tokens);
  }
};

std::vector<Case> Cases() {
  const std::vector<std::vector<int32_t>> maps = {
      {0}, {0, 0, 1, 1, 1}, {0, 1, 2}, {0, 0, 0, 0, 0, 0, 0}, {1, 0, 1}};
  std::vector<Case> cases;
  for (int head_dim : {8, 24, 64, 80, 128}) {
    for (const auto& map : maps) cases.push_back({head_dim, map});
  }
  for (int window : {1, 7, 16, 40}) cases.push_back({64, {0, 0, 0, 1, 1, 1}, window});
  for (int block_tokens : {1, 3, 32}) cases.push_back({24, {0, 0, 1}, 0, block_tokens});
  return cases;
}

class AttentionTest : public testing::TestWithParam<std::string> {
 protected:
  std::mt19937 random_{77};
};

TEST_P(AttentionTest, EqualsTheReference) {
  auto device = DeviceOf(GetParam());
  for (const Case& c : Cases()) {
    const AttentionShape shape = c.shape();
    const int num_blocks = (100 + c.block_tokens - 1) / c.block_tokens + 3;
    const Paged cache(num_blocks, shape.num_kv_heads, c.block_tokens, c.head_dim, random_);
    const auto blocks = ShuffledBlocks(num_blocks, random_);
    std::vector<int32_t> positions(100);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<const int32_t*> tables(positions.size(), blocks.data());
    const TokenPlacement where{positions.data(), tables.data()};
    const auto n = static_cast<int64_t>(positions.size());
    const auto q = RandomFloats(n * shape.num_q_heads * c.head_dim, random_);
    std::vector<float> out(q.size(), 1e30f);
    device->Attention(q.data(), where, shape, cache.view, n, out.data());
    ExpectNear(out, reference::Attention(q.data(), where, shape, cache.view, n), 3e-6, c.name());
  }
}

// Scores far apart: the largest must win without overflow, the smallest vanish.
TEST_P(AttentionTest, ExtremeScoresStayFinite) {
  auto device = DeviceOf(GetParam());
  const Case c{.head_dim = 16, .kv_head_of = {0}};
  Paged cache(3, 1, 16, c.head_dim, random_);
  for (float& key : cache.keys) key *= 300;
  const std::vector<int32_t> blocks = {2, 0, 1};
  const int32_t position = 40;
  const int32_t* table = blocks.data();
  const TokenPlacement where{&position, &table};
  const auto q = RandomFloats(c.head_dim, random_);
  std::vector<float> out(c.head_dim);
  device->Attention(q.data(), where, c.shape(), cache.view, 1, out.data());
  ExpectNear(out, reference::Attention(q.data(), where, c.shape(), cache.view, 1), 1e-3,
             "extreme scores");
}

// The same sequence in two caches, its blocks elsewhere and unused ones full of other numbers;
// alone and in a batch; on one thread and on three.
TEST_P(AttentionTest, PlacementBatchAndThreadsDoNotMatter) {
  auto one = DeviceOf(GetParam(), 1);
  auto three = DeviceOf(GetParam(), 3);
  for (const Case& c : Cases()) {
    const AttentionShape shape = c.shape();
    const int64_t row = int64_t{shape.num_kv_heads} * c.head_dim;
    const int length = 100;
    const int num_blocks = (length + c.block_tokens - 1) / c.block_tokens;
    const auto keys = RandomFloats(length * row, random_);
    const auto values = RandomFloats(length * row, random_);
    const auto q = RandomFloats(int64_t{length} * shape.num_q_heads * c.head_dim, random_);
    std::vector<int32_t> positions(length);
    std::iota(positions.begin(), positions.end(), 0);

    std::vector<std::vector<float>> results;
    for (int placement = 0; placement < 2; ++placement) {
      const Paged cache(num_blocks + 5, shape.num_kv_heads, c.block_tokens, c.head_dim, random_);
      const auto blocks = ShuffledBlocks(num_blocks + 5, random_);
      const std::vector<const int32_t*> tables(length, blocks.data());
      const TokenPlacement where{positions.data(), tables.data()};
      one->StoreKv(keys.data(), values.data(), where, length, cache.view);
      for (Device* device : {one.get(), three.get()}) {
        std::vector<float> out(q.size());
        device->Attention(q.data(), where, shape, cache.view, length, out.data());
        results.push_back(std::move(out));
      }
      std::vector<float> alone(q.size());
      for (int64_t t = 0; t < length; ++t) {
        const int64_t offset = t * shape.num_q_heads * c.head_dim;
        one->Attention(&q[offset], {&positions[t], &tables[t]}, shape, cache.view, 1,
                       &alone[offset]);
      }
      results.push_back(std::move(alone));
    }
    for (const auto& result : results) {
      ExpectSameBits(result.data(), results[0].data(), static_cast<int64_t>(q.size()), c.name());
    }
  }
}

// A head's output has the same bits whatever other heads the rank has.
TEST_P(AttentionTest, OtherHeadsDoNotMatter) {
  auto device = DeviceOf(GetParam());
  const Case all{.head_dim = 24, .kv_head_of = {0, 0, 0, 0, 0, 0, 0}};
  const Paged cache(7, 1, 16, all.head_dim, random_);
  const auto blocks = ShuffledBlocks(7, random_);
  const int32_t position = 97;
  const int32_t* table = blocks.data();
  const TokenPlacement where{&position, &table};
  const auto q = RandomFloats(7 * all.head_dim, random_);
  std::vector<float> together(q.size());
  device->Attention(q.data(), where, all.shape(), cache.view, 1, together.data());
  for (int heads = 1; heads < 7; ++heads) {
    const Case some{.head_dim = 24, .kv_head_of = std::vector<int32_t>(heads, 0)};
    for (int first = 0; first + heads <= 7; ++first) {
      std::vector<float> out(int64_t{heads} * all.head_dim);
      device->Attention(&q[first * all.head_dim], where, some.shape(), cache.view, 1, out.data());
      ExpectSameBits(out.data(), &together[first * all.head_dim], heads * all.head_dim,
                     absl::StrCat(heads, " heads from ", first));
    }
  }
}

TEST_P(AttentionTest, StoreKvWritesItsPlacesAndNothingElse) {
  auto device = DeviceOf(GetParam());
  const int heads = 3;
  const int dim = 5;
  const int block_tokens = 4;
  Paged cache(6, heads, block_tokens, dim, random_);
  auto expected_keys = cache.keys;
  auto expected_values = cache.values;
  const std::vector<int32_t> first_table = {4, 1};
  const std::vector<int32_t> second_table = {0, 5, 2};
  const std::vector<int32_t> positions = {3, 4, 9};
  const std::vector<const int32_t*> tables = {first_table.data(), first_table.data(),
                                              second_table.data()};
  const auto k = RandomFloats(3 * heads * dim, random_);
  const auto v = RandomFloats(3 * heads * dim, random_);
  for (int t = 0; t < 3; ++t) {
    for (int h = 0; h < heads; ++h) {
      for (int d = 0; d < dim; ++d) {
        const int block = tables[t][positions[t] / block_tokens];
        const int slot = positions[t] % block_tokens;
        const int at = ((block * heads + h) * block_tokens + slot) * dim + d;
        expected_keys[at] = k[(t * heads + h) * dim + d];
        expected_values[at] = v[(t * heads + h) * dim + d];
      }
    }
  }
  device->StoreKv(k.data(), v.data(), {positions.data(), tables.data()}, 3, cache.view);
  EXPECT_EQ(cache.keys, expected_keys);
  EXPECT_EQ(cache.values, expected_values);
}

INSTANTIATE_TEST_SUITE_P(, AttentionTest, testing::ValuesIn(InstructionSets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
