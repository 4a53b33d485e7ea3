// Head norms, rotary embedding, and the places of keys and values in the paged cache.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/half.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

constexpr int kQHeads = 5;
constexpr int kKvHeads = 2;
constexpr int32_t kKvHeadOf[] = {0, 0, 0, 1, 1};

class RotateAndStoreTest : public testing::TestWithParam<std::string> {
 protected:
  std::mt19937 random_{99};
};

AttentionShape Shape(int head_dim) {
  return {.num_q_heads = kQHeads,
          .num_kv_heads = kKvHeads,
          .head_dim = head_dim,
          .kv_head_of = kKvHeadOf,
          .scale = 1,
          .norm_eps = 1e-5f};
}

// Three sequences in blocks of 4, with a rotary row per token that no other token has.
OwnedStep Step(int rope_dim, bool interleaved) {
  OwnedStep step;
  step.AddSequence(3, {1, 2}, {4, 1});
  step.AddSequence(9, {3}, {0, 5, 2});
  step.AddSequence(0, {4, 5, 6, 7, 8}, {3, 6});
  std::vector<float> cos, sin;
  for (int t = 0; t < 8; ++t) {
    for (int i = 0; i < rope_dim / 2; ++i) {
      const double angle = (t * 17 + 3) * std::pow(10000.0, -2.0 * i / rope_dim);
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  step.SetRope(rope_dim, interleaved, std::move(cos), std::move(sin));
  return step;
}

TEST_P(RotateAndStoreTest, TurnsEveryHeadByItsTokensRow) {
  HostOps ops(DeviceOf(GetParam()));
  for (int rope_dim : {2, 8, 20, 64}) {
    for (bool interleaved : {false, true}) {
      for (int head_dim : {rope_dim, rope_dim + 4, rope_dim + 16}) {
        const OwnedStep step = Step(rope_dim, interleaved);
        const auto q = RandomFloats(step.n() * kQHeads * head_dim, random_);
        const auto k = RandomFloats(step.n() * kKvHeads * head_dim, random_);
        const HostCache cache = ops.RandomCache(7, kKvHeads, 4, head_dim, random_());
        const auto turned = ops.RotateAndStore(step, Shape(head_dim), cache, q, k, k);
        const std::string what = absl::StrCat("rope_dim ", rope_dim, ", head_dim ", head_dim,
                                              interleaved ? ", neighbours" : ", halves");
        const RopeTable table = step.view().rope;
        ExpectNear(turned.q,
                   reference::Rope(table, step.n(), kQHeads, head_dim, ops.Rounded(q).data()),
                   1e-6 + Rounding(ops.device()), what);
        ExpectNear(turned.k,
                   reference::Rope(table, step.n(), kKvHeads, head_dim, ops.Rounded(k).data()),
                   1e-6 + Rounding(ops.device()), what);
        for (int64_t h = 0; h < step.n() * kQHeads; ++h) {  // what does not turn passes through
          const std::vector<float> taken = ops.Rounded(
              {&q[h * head_dim + rope_dim], &q[h * head_dim + rope_dim] + head_dim - rope_dim});
          ExpectSameBits(&turned.q[h * head_dim + rope_dim], taken.data(), head_dim - rope_dim,
                         what);
        }
      }
    }
  }
}

TEST_P(RotateAndStoreTest, NormalizesHeadsBeforeItTurnsThem) {
  HostOps ops(DeviceOf(GetParam()));
  const int head_dim = 24;
  const OwnedStep step = Step(head_dim, false);
  const auto q = RandomFloats(step.n() * kQHeads * head_dim, random_);
  const auto k = RandomFloats(step.n() * kKvHeads * head_dim, random_);
  const auto q_norm = RandomFloats(head_dim, random_);
  const auto k_norm = RandomFloats(head_dim, random_);
  const HostCache cache = ops.RandomCache(7, kKvHeads, 4, head_dim, random_());
  const auto turned = ops.RotateAndStore(step, Shape(head_dim), cache, q, k, k, q_norm, k_norm);
  const auto expect = [&](const std::vector<float>& actual, const std::vector<float>& x,
                          const std::vector<float>& weight, int heads) {
    const auto normed =
        reference::RmsNorm(ops.Rounded(x).data(), weight.data(), 1e-5f, step.n() * heads, head_dim);
    const std::vector<float> rounded(normed.begin(), normed.end());
    ExpectNear(actual, reference::Rope(step.view().rope, step.n(), heads, head_dim, rounded.data()),
               2e-6 + 2 * Rounding(ops.device()), absl::StrCat(heads, " heads"));
  };
  expect(turned.q, q, q_norm, kQHeads);
  expect(turned.k, k, k_norm, kKvHeads);
}

TEST_P(RotateAndStoreTest, WithoutRotaryNothingTurnsButIsStored) {
  HostOps ops(DeviceOf(GetParam()));
  const int head_dim = 24;
  const OwnedStep step = Step(head_dim, false);
  const auto q = RandomFloats(step.n() * kQHeads * head_dim, random_);
  const auto k = RandomFloats(step.n() * kKvHeads * head_dim, random_);
  const HostCache cache = ops.RandomCache(7, kKvHeads, 4, head_dim, random_());
  AttentionShape shape = Shape(head_dim);
  shape.rotary = false;
  const auto turned = ops.RotateAndStore(step, shape, cache, q, k, k);
  EXPECT_EQ(turned.q, ops.Rounded(q));
  EXPECT_EQ(turned.k, ops.Rounded(k));
  EXPECT_NE(turned.cache.keys, cache.keys);
}

TEST_P(RotateAndStoreTest, WritesItsPlacesAndNothingElse) {
  for (DType kv_type : KvTypesOf(GetParam())) {
    HostOps ops(DeviceOf(GetParam(), /*threads=*/2, kv_type));
    const int head_dim = 7;
    const OwnedStep step = Step(2, true);
    const auto q = RandomFloats(step.n() * kQHeads * head_dim, random_);
    const auto k = RandomFloats(step.n() * kKvHeads * head_dim, random_);
    const auto v = RandomFloats(step.n() * kKvHeads * head_dim, random_);
    const HostCache cache = ops.RandomCache(7, kKvHeads, 4, head_dim, random_());
    const auto turned = ops.RotateAndStore(step, Shape(head_dim), cache, q, k, v);

    std::vector<std::byte> keys = cache.keys, values = cache.values;
    const auto put = [&](std::vector<std::byte>& store, int64_t at, float value) {
      const uint16_t rounded = FloatToBFloat16(value);
      if (kv_type == DType::kBF16) {
        std::memcpy(&store[at * 2], &rounded, 2);
      } else {
        std::memcpy(&store[at * 4], &value, 4);
      }
    };
    const StepView view = step.view();
    for (int64_t s = 0; s < view.num_sequences; ++s) {
      const SequenceSpan& span = view.sequences[s];
      for (int i = 0; i < span.num_tokens; ++i) {
        const int position = span.start_position + i;
        for (int h = 0; h < kKvHeads; ++h) {
          for (int d = 0; d < head_dim; ++d) {
            const int64_t from = ((span.first_token + i) * kKvHeads + h) * head_dim + d;
            const int64_t first = KvHeadOffset(cache.view, span.block_table[position / 4], h);
            put(keys, first + KeyOffset(cache.view, position % 4, d), turned.k[from]);
            put(values, first + ValueOffset(cache.view, position % 4, d), v[from]);
          }
        }
      }
    }
    EXPECT_EQ(turned.cache.keys, keys);
    EXPECT_EQ(turned.cache.values, values);
  }
}

INSTANTIATE_TEST_SUITE_P(, RotateAndStoreTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
