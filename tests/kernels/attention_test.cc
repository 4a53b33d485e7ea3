#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

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

std::vector<Case> Cases(bool gpu) {
  if (gpu) {  // each is simulated, thread by thread
    return {{8, {0}},
            {24, {0, 0, 1, 1, 1}},
            {80, {0, 1, 2}},
            {128, {0, 0, 0, 0, 0, 0, 0}},
            {64, {0, 0, 0, 1, 1, 1}, 7},
            {24, {0, 0, 1}, 40},
            {24, {0, 0, 1}, 0, 1},
            {24, {0, 0, 1}, 0, 3},
            {24, {0, 0, 1}, 0, 32}};
  }
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

// Device and what keys and values are kept as.
using DeviceAndKvType = std::pair<std::string, DType>;

std::vector<DeviceAndKvType> DevicesAndKvTypes() {
  std::vector<DeviceAndKvType> all;
  for (const std::string& device : TestDevices()) {
    for (const DType kv_type : KvTypesOf(device)) all.emplace_back(device, kv_type);
  }
  return all;
}

class AttentionTest : public testing::TestWithParam<DeviceAndKvType> {
 protected:
  bool gpu() const { return IsGpu(GetParam().first); }
  HostOps Ops(int threads = 1) const {
    return HostOps(DeviceOf(GetParam().first, threads, GetParam().second));
  }
  // Relative to the largest: what float32 arithmetic explains, and where weights of the softmax and
  // results are bfloat16.
  double Tolerance() const { return gpu() ? 1e-2 : 3e-6; }

  std::mt19937 random_{77};
};

std::vector<int32_t> AnyIds(int count) { return std::vector<int32_t>(count, 0); }

TEST_P(AttentionTest, EqualsTheReference) {
  HostOps ops = Ops();
  for (const Case& c : Cases(gpu())) {
    const AttentionShape shape = c.shape();
    const int num_blocks = (100 + c.block_tokens - 1) / c.block_tokens + 3;
    const HostCache cache =
        ops.RandomCache(num_blocks, shape.num_kv_heads, c.block_tokens, c.head_dim, random_());
    OwnedStep step;
    step.AddSequence(0, AnyIds(100), ShuffledBlocks(num_blocks, random_));
    step.AddSequence(40, AnyIds(1), ShuffledBlocks(num_blocks, random_));
    const auto q = RandomFloats(step.n() * shape.num_q_heads * c.head_dim, random_);
    ExpectNear(ops.Attention(step, shape, cache, q),
               reference::Attention(ops.Rounded(q).data(), step.view(), shape, cache.view),
               Tolerance(), c.name());
  }
}

// Scores far apart: the largest must win without overflow, the smallest vanish.
TEST_P(AttentionTest, ExtremeScoresStayFinite) {
  HostOps ops = Ops();
  const Case c{.head_dim = 16, .kv_head_of = {0}};
  const HostCache cache = ops.RandomCache(3, 1, 16, c.head_dim, random_());
  OwnedStep step;
  step.AddSequence(40, AnyIds(1), {2, 0, 1});
  auto q = RandomFloats(c.head_dim, random_);
  for (float& value : q) value *= 300;
  ExpectNear(ops.Attention(step, c.shape(), cache, q),
             reference::Attention(ops.Rounded(q).data(), step.view(), c.shape(), cache.view),
             gpu() ? 1e-2 : 1e-3, "extreme scores");
}

// The same sequence in two caches, its blocks elsewhere and unused ones full of other numbers;
// alone and in a batch; on one thread and on three.
TEST_P(AttentionTest, PlacementBatchAndThreadsDoNotMatter) {
  HostOps one = Ops(1);
  HostOps three = Ops(3);
  for (const Case& c : Cases(gpu())) {
    const AttentionShape shape = c.shape();
    const int64_t q_row = int64_t{shape.num_q_heads} * c.head_dim;
    const int64_t kv_row = int64_t{shape.num_kv_heads} * c.head_dim;
    const int length = gpu() ? 37 : 100;
    const int num_blocks = (length + c.block_tokens - 1) / c.block_tokens;
    const auto keys = RandomFloats(length * kv_row, random_);
    const auto values = RandomFloats(length * kv_row, random_);
    const auto q = RandomFloats(length * q_row, random_);

    std::vector<std::vector<float>> results;
    for (int placement = 0; placement < 2; ++placement) {
      const auto blocks = ShuffledBlocks(num_blocks + 5, random_);
      OwnedStep step;
      step.AddSequence(0, AnyIds(length), blocks);
      step.SetRope(0, false, {}, {});  // keys are stored as they are
      const HostCache empty = one.RandomCache(num_blocks + 5, shape.num_kv_heads, c.block_tokens,
                                              c.head_dim, random_());
      const HostCache cache = one.RotateAndStore(step, shape, empty, q, keys, values).cache;
      results.push_back(one.Attention(step, shape, cache, q));
      results.push_back(three.Attention(step, shape, cache, q));
      std::vector<float> alone;
      for (int t = 0; t < length; ++t) {
        OwnedStep token;
        token.AddSequence(t, AnyIds(1), blocks);
        const auto out = one.Attention(token, shape, cache, {&q[t * q_row], &q[t * q_row] + q_row});
        alone.insert(alone.end(), out.begin(), out.end());
      }
      results.push_back(std::move(alone));
    }
    for (const auto& result : results) {
      ExpectSameBits(result.data(), results[0].data(), static_cast<int64_t>(q.size()), c.name());
    }
  }
}

// Far into a sequence, over several chunks of positions: the reference, and the same bits for a
// token alone, as part of a prompt, in company, and on threads that share its chunks.
TEST_P(AttentionTest, LongContextsDoNotDependOnHowTheyAreDealtOut) {
  HostOps one = Ops(1);
  HostOps three = Ops(3);
  const std::vector<std::pair<int, int>> all = {{0, 16}, {700, 16}, {0, 3}, {513, 32}};
  const std::vector<std::pair<int, int>> few = {{0, 16}, {300, 3}};
  for (const auto& [window, block_tokens] : gpu() ? few : all) {
    const Case c{64, {0, 0, 0, 1}, window, block_tokens};
    const AttentionShape shape = c.shape();
    const int64_t q_row = int64_t{shape.num_q_heads} * c.head_dim;
    const int start = gpu() ? 500 : 1500, count = gpu() ? 20 : 40;
    const int num_blocks = (start + count + block_tokens - 1) / block_tokens + 3;
    const HostCache cache =
        one.RandomCache(num_blocks, shape.num_kv_heads, block_tokens, c.head_dim, random_());
    const auto blocks = ShuffledBlocks(num_blocks, random_);
    OwnedStep prompt;
    prompt.AddSequence(start, AnyIds(count), blocks);
    const auto q = RandomFloats(count * q_row, random_);
    const auto together = one.Attention(prompt, shape, cache, q);
    ExpectNear(together,
               reference::Attention(one.Rounded(q).data(), prompt.view(), shape, cache.view),
               Tolerance(), c.name());
    ExpectSameBits(three.Attention(prompt, shape, cache, q).data(), together.data(), count * q_row,
                   c.name() + ", three threads");
    for (int t : {0, 1, 17, 35, 36, 39}) {
      if (t >= count) continue;
      OwnedStep token;
      token.AddSequence(start + t, AnyIds(1), blocks);
      const std::vector<float> own(&q[t * q_row], &q[t * q_row] + q_row);
      for (HostOps* ops : {&one, &three}) {
        ExpectSameBits(ops->Attention(token, shape, cache, own).data(), &together[t * q_row], q_row,
                       absl::StrCat(c.name(), ", token ", t));
      }
    }
  }
}

// A head's output has the same bits whatever other heads the rank has.
TEST_P(AttentionTest, OtherHeadsDoNotMatter) {
  HostOps ops = Ops();
  const Case all{.head_dim = 24, .kv_head_of = {0, 0, 0, 0, 0, 0, 0}};
  const HostCache cache = ops.RandomCache(7, 1, 16, all.head_dim, random_());
  OwnedStep step;
  step.AddSequence(97, AnyIds(1), ShuffledBlocks(7, random_));
  const auto q = RandomFloats(7 * all.head_dim, random_);
  const auto together = ops.Attention(step, all.shape(), cache, q);
  for (int heads = 1; heads < 7; ++heads) {
    const Case some{.head_dim = 24, .kv_head_of = std::vector<int32_t>(heads, 0)};
    for (int first = 0; first + heads <= 7; ++first) {
      const float* begin = &q[first * all.head_dim];
      const auto out =
          ops.Attention(step, some.shape(), cache, {begin, begin + heads * all.head_dim});
      ExpectSameBits(out.data(), &together[first * all.head_dim], heads * all.head_dim,
                     absl::StrCat(heads, " heads from ", first));
    }
  }
}

TEST_P(AttentionTest, ABlocksKeysAndValuesAreCopiedAndNothingElse) {
  HostOps ops = Ops();
  const HostCache cache = ops.RandomCache(5, 3, 7, 11, random_());
  const HostCache copied = ops.CopyKvBlock(cache, 4, 1);
  const auto expect_copied = [&](std::vector<std::byte> expected,
                                 const std::vector<std::byte>& actual) {
    const auto block = static_cast<int64_t>(expected.size()) / 5;
    std::copy_n(expected.begin() + 4 * block, block, expected.begin() + block);
    EXPECT_EQ(actual, expected);
  };
  expect_copied(cache.keys, copied.keys);
  expect_copied(cache.values, copied.values);
}

INSTANTIATE_TEST_SUITE_P(, AttentionTest, testing::ValuesIn(DevicesAndKvTypes()),
                         [](const auto& test) {
                           return absl::StrCat(test.param.first, "_kv_",
                                               std::string(DTypeName(test.param.second)));
                         });

}  // namespace
}  // namespace tessera::kernels
