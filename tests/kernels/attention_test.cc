#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/half.h"
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
  for (int head_dim : {7, 8, 24, 33, 64, 80, 128}) {
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
  // Queries and weights of the softmax become bfloat16, as keys and values are, and are multiplied
  // so.
  bool dots() const {
    const auto& [device, kv_type] = GetParam();
    return kv_type == DType::kBF16 && (device == "avx512bf16" || device == "amx");
  }
  // What `actual` is near to: the reference of the queries as the device takes them. `relative`: to
  // the largest, what float32 arithmetic explains (and where results are bfloat16). Rounded weights
  // differ by 2^-8 of themselves at most, as do their sums: by so much of the weighed magnitudes
  // and of the result.
  void ExpectNearReference(const HostOps& ops, const std::vector<float>& actual,
                           const OwnedStep& step, const AttentionShape& shape,
                           const HostCache& cache, const std::vector<float>& q, double relative,
                           const std::string& what) const {
    std::vector<float> taken = ops.Rounded(q);
    if (dots()) {
      for (float& value : taken) value = BFloat16ToFloat(FloatToBFloat16(value));
    }
    const auto expected = reference::Attention(taken.data(), step.view(), shape, cache.view);
    double largest = 0;
    for (double value : expected) largest = std::max(largest, std::fabs(value));
    std::vector<double> tolerance(expected.size(), relative * largest);
    if (dots()) {
      HostCache magnitudes = cache;
      for (size_t i = 1; i < magnitudes.values.size(); i += 2)
        magnitudes.values[i] &= std::byte{0x7f};
      magnitudes.view.values = magnitudes.values.data();
      const auto weighed = reference::Attention(taken.data(), step.view(), shape, magnitudes.view);
      for (size_t i = 0; i < expected.size(); ++i) {
        tolerance[i] += 0x1.02p-8 * (weighed[i] + std::fabs(expected[i]));
      }
    }
    ExpectNear(actual, expected, tolerance, what);
  }
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
    ExpectNearReference(ops, ops.Attention(step, shape, cache, q), step, shape, cache, q,
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
  ExpectNearReference(ops, ops.Attention(step, c.shape(), cache, q), step, c.shape(), cache, q,
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
    ExpectNearReference(one, together, prompt, shape, cache, q, Tolerance(), c.name());
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

// Keys and values of a block's token are not numbers any more.
void MakeStale(int block, int slot, HostCache* cache) {
  const auto bytes = static_cast<int64_t>(BlockBytes(cache->view.type));
  const auto fill = [&](std::vector<std::byte>& store, int64_t element) {
    std::fill_n(store.begin() + element * bytes, bytes, std::byte{0xff});
  };
  for (int head = 0; head < cache->view.num_kv_heads; ++head) {
    const int64_t first = KvHeadOffset(cache->view, block, head);
    for (int d = 0; d < cache->view.head_dim; ++d) {
      fill(cache->keys, first + KeyOffset(cache->view, slot, d));
      fill(cache->values, first + ValueOffset(cache->view, slot, d));
    }
  }
}

// Everything before and behind a row's positions is not a number: in the same pair of positions, in
// the same vector, in the same block.
TEST_P(AttentionTest, WhatIsNotAttendedToMayBeAnything) {
  if (gpu()) GTEST_SKIP() << "slow, and there are no pairs";
  HostOps ops = Ops();
  for (int head_dim : {7, 24, 64}) {
    for (int block_tokens : {1, 3, 4, 16}) {
      for (int window : {0, 1, 2, 5}) {
        const Case c{head_dim, {0, 0, 0, 1}, window, block_tokens};
        const int num_blocks = 40 / block_tokens + 1;
        const HostCache cache = ops.RandomCache(num_blocks, 2, block_tokens, head_dim, random_());
        const auto blocks = ShuffledBlocks(num_blocks, random_);
        for (int last = 0; last < 36; ++last) {
          OwnedStep step;
          step.AddSequence(last, AnyIds(1), blocks);
          const auto q = RandomFloats(4 * head_dim, random_);
          HostCache stale = cache;
          for (int position = 0; position < num_blocks * block_tokens; ++position) {
            const bool attended = position <= last && (window == 0 || position > last - window);
            if (!attended)
              MakeStale(blocks[position / block_tokens], position % block_tokens, &stale);
          }
          ExpectSameBits(ops.Attention(step, c.shape(), stale, q).data(),
                         ops.Attention(step, c.shape(), cache, q).data(),
                         static_cast<int64_t>(q.size()), absl::StrCat(c.name(), ", last ", last));
        }
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
