// Rotation with the KV append, and attention in both forms over the executor: awkward head sizes,
// uneven groups, contexts across chunks and KV blocks, windows; and that neither the form nor the
// other tokens of a step change a token's bits.
#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/cuda/step_arrays.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"
#include "kernels/simulated/executor.h"
#include "tests/kernels/simulated/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

struct Run {
  int32_t start = 0;
  int32_t tokens = 1;
};

struct Model {
  int q_heads = 4;
  int kv_heads = 2;
  int head_dim = 64;
  std::vector<int32_t> kv_head_of = {};  // empty: even groups
  int window = 0;
  int block_tokens = 16;
};

// A step of `runs`, one sequence each, with random caches, on the host and as device arrays.
class Scene {
 public:
  Scene(const Model& model, std::vector<Run> runs, uint32_t seed)
      : model_(model), runs_(std::move(runs)), random_(seed) {
    if (model_.kv_head_of.empty()) {
      for (int h = 0; h < model.q_heads; ++h) {
        model_.kv_head_of.push_back(h / (model.q_heads / model.kv_heads));
      }
    }
    std::vector<int32_t> begins(model.kv_heads + 1, 0);
    for (int32_t kv : model_.kv_head_of) ++begins[kv + 1];
    largest_group_ = *std::max_element(begins.begin(), begins.end());
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
    begins_ = DeviceArray<int32_t>(begins);

    int blocks = 0;
    for (const Run& run : runs_) {
      blocks += (run.start + run.tokens + model.block_tokens - 1) / model.block_tokens;
      n_ += run.tokens;
    }
    // Blocks in an order of their own, and one that nobody may touch.
    std::vector<int32_t> order(blocks + 1);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    num_blocks_ = blocks + 1;
    int next = 0;
    int32_t token = 0;
    for (const Run& run : runs_) {
      const int count = (run.start + run.tokens + model.block_tokens - 1) / model.block_tokens;
      tables_.emplace_back(order.begin() + next, order.begin() + next + count);
      next += count;
      spans_.push_back({token, run.tokens, run.start, nullptr, count});
      token += run.tokens;
    }
    for (size_t s = 0; s < spans_.size(); ++s) spans_[s].block_table = tables_[s].data();

    const int64_t cached =
        int64_t{num_blocks_} * model.kv_heads * model.block_tokens * model.head_dim;
    keys_ = ToBf16(RandomFloats(cached, random_));
    values_ = ToBf16(RandomFloats(cached, random_));
    // What no position of the step reaches is NaN: reading it must not matter.
    for (size_t s = 0; s < spans_.size(); ++s) {
      const int end = runs_[s].start + runs_[s].tokens;
      for (int p = end; p < spans_[s].num_blocks * model.block_tokens; ++p) SetNan(s, p);
    }
    ids_.resize(n_);
    std::iota(ids_.begin(), ids_.end(), 0);
  }

  StepView View() const {
    StepView view;
    view.n = n_;
    view.ids = ids_.data();
    view.sequences = spans_.data();
    view.num_sequences = static_cast<int64_t>(spans_.size());
    view.rope = rope_;
    return view;
  }

  // Every token of the step a sequence of its own, over the same cache.
  void CutIntoTokens() {
    std::vector<SequenceSpan> cut;
    for (const SequenceSpan& span : spans_) {
      for (int32_t i = 0; i < span.num_tokens; ++i) {
        cut.push_back({span.first_token + i, 1, span.start_position + i, span.block_table,
                       span.num_blocks});
      }
    }
    spans_ = cut;
  }

  // rows: of the step on the device, at least n.
  StepArrays Upload(int64_t rows) {
    const StepView view = View();
    StepCapacity capacity = CapacityFor(view, rows, largest_group_, model_.window);
    capacity.tokens += 3;
    capacity.decode_items += 2;
    const StepLayout layout(capacity);
    step_memory_ = DeviceArray<std::byte>(layout.bytes());
    const auto counts =
        layout.Fill(view, rows, largest_group_, model_.window, step_memory_.data());
    EXPECT_TRUE(counts.ok()) << counts.status();
    counts_ = counts.value();
    return layout.Arrays(step_memory_.data(), rope_, true);
  }

  KvCache Cache() {
    return {keys_.data(),          values_.data(),      num_blocks_,
            model_.kv_heads, model_.block_tokens, model_.head_dim};
  }
  AttentionHeads Heads() const {
    return {.num_q_heads = model_.q_heads,
            .num_kv_heads = model_.kv_heads,
            .head_dim = model_.head_dim,
            .group_begins = begins_.data(),
            .largest_group = largest_group_,
            .scale = Scale(),
            .sliding_window = model_.window};
  }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(model_.head_dim)); }

  // (n, q_heads, head_dim), by both kernels as the step's runs are.
  std::vector<float> Attend(const std::vector<float>& q, int64_t rows) {
    const StepArrays step = Upload(rows);
    const AttentionHeads heads = Heads();
    const int64_t width = int64_t{model_.q_heads} * model_.head_dim;
    std::vector<float> padded(q);
    padded.resize(rows * width, 1.0f);
    const auto device_q = ToBf16(padded);
    DeviceArray<BFloat16> out(rows * width);
    DeviceArray<std::byte> scratch(DecodeScratchBytes(heads, step.decode_capacity));
    // A grid smaller than the number of items: blocks take several.
    const int64_t grid = std::max<int64_t>(1, counts_.decode_items / 2);
    RunLaunch(LaunchDecodeAttention(device_q.data(), heads, step, Cache(), rows, grid,
                                    scratch.data(), scratch.size(), out.data(), nullptr));
    RunLaunch(LaunchPrefillAttention(device_q.data(), heads, step, Cache(), rows,
                                     counts_.prefill_items, out.data(), nullptr));
    return ToFloats(out);
  }

  std::vector<double> Expected(const std::vector<float>& q) {
    const std::vector<float> keys = ToFloats(keys_);
    const std::vector<float> values = ToFloats(values_);
    AttentionShape shape;
    shape.num_q_heads = model_.q_heads;
    shape.num_kv_heads = model_.kv_heads;
    shape.head_dim = model_.head_dim;
    shape.kv_head_of = model_.kv_head_of.data();
    shape.scale = Scale();
    shape.sliding_window = model_.window;
    KvCacheView cache;
    cache.keys = const_cast<float*>(keys.data());
    cache.values = const_cast<float*>(values.data());
    cache.type = DType::kF32;
    cache.num_blocks = num_blocks_;
    cache.num_kv_heads = model_.kv_heads;
    cache.block_tokens = model_.block_tokens;
    cache.head_dim = model_.head_dim;
    return reference::Attention(q.data(), View(), shape, cache);
  }

  int64_t n() const { return n_; }
  std::vector<float> RandomQ() {
    return RoundedToBf16(
        RandomFloats(n_ * model_.q_heads * model_.head_dim, random_));
  }
  std::mt19937& random() { return random_; }
  void SetRope(const RopeTable& rope) { rope_ = rope; }
  // Where position p of sequence s has its key of that head.
  int64_t RowOf(size_t s, int p, int kv_head) const {
    const int64_t block = tables_[s][p / model_.block_tokens];
    return ((block * model_.kv_heads + kv_head) * model_.block_tokens + p % model_.block_tokens) *
           model_.head_dim;
  }
  DeviceArray<BFloat16>& keys() { return keys_; }
  DeviceArray<BFloat16>& values() { return values_; }

 private:
  void SetNan(size_t s, int p) {
    for (int h = 0; h < model_.kv_heads; ++h) {
      for (int d = 0; d < model_.head_dim; ++d) {
        keys_[RowOf(s, p, h) + d] = {0x7fff};
        values_[RowOf(s, p, h) + d] = {0x7fff};
      }
    }
  }

  Model model_;
  std::vector<Run> runs_;
  std::mt19937 random_;
  int64_t n_ = 0;
  int num_blocks_ = 0;
  int largest_group_ = 0;
  DeviceArray<int32_t> begins_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<SequenceSpan> spans_;
  std::vector<int32_t> ids_;
  RopeTable rope_;
  DeviceArray<BFloat16> keys_, values_;
  DeviceArray<std::byte> step_memory_;
  StepCounts counts_;
};

// Probabilities are rounded to bfloat16, and so is the result.
constexpr double kAttentionRelative = 2 * kBf16Rounding;

class SimtAttention : public ::testing::Test {
 protected:
  void SetUp() override { simt::SetChecks({.global_races = true}); }
  void TearDown() override { simt::SetChecks({}); }
};

void ExpectAttention(const Model& model, const std::vector<Run>& runs, const std::string& what) {
  Scene scene(model, runs, 17);
  const auto q = scene.RandomQ();
  auto out = scene.Attend(q, scene.n());
  ExpectNear(out, scene.Expected(q), kAttentionRelative, what);
}

TEST_F(SimtAttention, DecodeEqualsTheReference) {
  for (int dim : {16, 64, 80, 96, 128}) {
    // First token, within a block, at its border, within and across chunks.
    ExpectAttention({.head_dim = dim}, {{0}, {5}, {15}, {16}, {63}, {64}, {255}, {256}, {700}},
                    absl::StrCat("dim ", dim));
  }
}

TEST_F(SimtAttention, PrefillEqualsTheReference) {
  for (int dim : {16, 64, 80, 96, 128}) {
    ExpectAttention({.head_dim = dim}, {{0, 8}, {0, 33}, {70, 40}, {250, 20}},
                    absl::StrCat("dim ", dim));
  }
}

TEST_F(SimtAttention, HeadSizesWithoutAFastPath) {
  for (int dim : {2, 18, 20, 100, 160, 256}) {
    ExpectAttention({.head_dim = dim}, {{0}, {300}, {60, 10}}, absl::StrCat("dim ", dim));
  }
}

TEST_F(SimtAttention, UnevenGroups) {
  ExpectAttention({.q_heads = 7, .kv_heads = 3, .kv_head_of = {0, 0, 0, 1, 2, 2, 2}},
                  {{40}, {300}, {30, 12}}, "groups of 3, 1, 3");
  ExpectAttention({.q_heads = 2, .kv_heads = 2, .kv_head_of = {1, 1}}, {{40}, {30, 12}},
                  "a KV head that nobody reads");
  ExpectAttention({.q_heads = 20, .kv_heads = 1}, {{40}, {300}, {30, 12}}, "more heads than rows");
  ExpectAttention({.q_heads = 1, .kv_heads = 1}, {{40}, {0, 65}}, "one head");
}

TEST_F(SimtAttention, SlidingWindows) {
  for (int window : {1, 7, 64, 100, 300}) {
    ExpectAttention({.window = window}, {{0}, {63}, {64}, {280}, {600}, {0, 80}, {500, 30}},
                    absl::StrCat("window ", window));
  }
}

TEST_F(SimtAttention, KvBlocksOfOtherSizes) {
  for (int block_tokens : {1, 5, 64, 256}) {
    ExpectAttention({.block_tokens = block_tokens}, {{0}, {77}, {257}, {20, 50}},
                    absl::StrCat("blocks of ", block_tokens));
  }
}

TEST_F(SimtAttention, RowsBeyondTheStepAreZeros) {
  Scene scene({}, {{300}, {3}}, 3);
  const auto q = scene.RandomQ();
  const auto out = scene.Attend(q, 5);
  const int64_t width = 4 * 64;
  for (int64_t i = 2 * width; i < 5 * width; ++i) ASSERT_EQ(out[i], 0.0f);
}

// The same tokens as one run (prefill form) and each for itself (decode form). Outputs are bfloat16,
// so it takes many to see a sum's last bits.
TEST_F(SimtAttention, BitsDependNeitherOnTheFormNorOnOtherTokens) {
  simt::SetChecks({});
  for (const auto& [dim, window] : {std::pair{128, 0}, {64, 300}}) {
    Scene scene({.q_heads = 6, .head_dim = dim, .window = window}, {{230, 330}}, 21);
    const auto q = scene.RandomQ();
    const auto together = scene.Attend(q, scene.n());
    scene.CutIntoTokens();
    const auto alone = scene.Attend(q, scene.n());
    ExpectSameBits(alone.data(), together.data(), static_cast<int64_t>(alone.size()),
                   absl::StrCat("dim ", dim, ", window ", window));
  }
}

// -- rotation and the KV append -----------------------------------------------------------------

void ExpectRotation(const Model& model, int rope_dim, bool interleaved, bool norms) {
  const std::string what = absl::StrCat("dim ", model.head_dim, ", rope ", rope_dim,
                                        interleaved ? " interleaved" : "", norms ? " normed" : "");
  Scene scene(model, {{0, 3}, {14, 5}, {40, 1}}, 77);
  const int64_t n = scene.n();
  const int64_t rows = n + 2;  // the last two store nothing
  const auto cos = RandomFloats(n * (rope_dim / 2), scene.random());
  const auto sin = RandomFloats(n * (rope_dim / 2), scene.random());
  const RopeTable rope{cos.data(), sin.data(), rope_dim, interleaved};
  scene.SetRope(rope);
  const int dim = model.head_dim;
  const auto q = RoundedToBf16(RandomFloats(rows * model.q_heads * dim, scene.random()));
  const auto k = RoundedToBf16(RandomFloats(rows * model.kv_heads * dim, scene.random()));
  const auto v = RoundedToBf16(RandomFloats(rows * model.kv_heads * dim, scene.random()));
  const auto weights = RandomFloats(2 * dim, scene.random());
  const DeviceArray<float> q_norm(std::vector<float>(weights.begin(), weights.begin() + dim));
  const DeviceArray<float> k_norm(std::vector<float>(weights.begin() + dim, weights.end()));

  auto device_q = ToBf16(q);
  auto device_k = ToBf16(k);
  const auto device_v = ToBf16(v);
  const std::vector<float> keys_before = ToFloats(scene.keys());
  const StepArrays step = scene.Upload(rows);
  HeadNorms head_norms;
  if (norms) head_norms = {q_norm.data(), k_norm.data(), 1e-5f};
  RunLaunch(LaunchRotateAndStore(scene.Heads(), head_norms, step, scene.Cache(), rows,
                                 device_q.data(), device_k.data(), device_v.data(), nullptr));

  const auto expected = [&](const std::vector<float>& x, int heads, const float* weight) {
    std::vector<float> in(x.begin(), x.begin() + n * heads * dim);
    if (norms) {
      std::vector<double> normed = reference::RmsNorm(in.data(), weight, 1e-5, n * heads, dim);
      in.assign(normed.begin(), normed.end());
    }
    return reference::Rope(rope, n, heads, dim, in.data());
  };
  std::vector<float> q_out = ToFloats(device_q);
  std::vector<float> k_out = ToFloats(device_k);
  q_out.resize(n * model.q_heads * dim);
  k_out.resize(n * model.kv_heads * dim);
  ExpectNear(q_out, expected(q, model.q_heads, weights.data()), kBf16Rounding, what + " q");
  ExpectNear(k_out, expected(k, model.kv_heads, weights.data() + dim), kBf16Rounding, what + " k");

  const std::vector<float> keys = ToFloats(scene.keys());
  const std::vector<float> values = ToFloats(scene.values());
  int64_t token = 0;
  int64_t stored = 0;
  const std::vector<Run> runs = {{0, 3}, {14, 5}, {40, 1}};
  for (size_t s = 0; s < runs.size(); ++s) {
    for (int i = 0; i < runs[s].tokens; ++i, ++token) {
      for (int h = 0; h < model.kv_heads; ++h) {
        const int64_t at = scene.RowOf(s, runs[s].start + i, h);
        const int64_t from = (token * model.kv_heads + h) * dim;
        ExpectSameBits(&keys[at], &k_out[from], dim, what + " stored key");
        ExpectSameBits(&values[at], &v[from], dim, what + " stored value");
        stored += dim;
      }
    }
  }
  int64_t changed = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    changed += std::memcmp(&keys[i], &keys_before[i], sizeof(float)) != 0;
  }
  EXPECT_LE(changed, stored) << what;
}

TEST_F(SimtAttention, RotateAndStore) {
  for (int dim : {16, 80, 128, 256}) {
    for (bool interleaved : {false, true}) {
      for (bool norms : {false, true}) {
        ExpectRotation({.head_dim = dim}, dim, interleaved, norms);
        ExpectRotation({.head_dim = dim}, dim / 4 * 2, interleaved, norms);
      }
    }
  }
  ExpectRotation({.q_heads = 3, .kv_heads = 3, .head_dim = 6}, 6, false, true);
  ExpectRotation({.head_dim = 32}, 0, false, true);
}

TEST(StepLayout, SaysWhatDoesNotFit) {
  Scene scene({}, {{300, 1}, {0, 20}}, 1);
  const StepView view = scene.View();
  StepCapacity capacity = CapacityFor(view, view.n, 2, 0);
  EXPECT_EQ(capacity.decode_items, 2);
  EXPECT_EQ(capacity.prefill_items, 1);
  std::vector<std::byte> host(StepLayout(capacity).bytes());
  EXPECT_TRUE(StepLayout(capacity).Fill(view, view.n, 2, 0, host.data()).ok());
  --capacity.decode_items;
  const auto counts = StepLayout(capacity).Fill(view, view.n, 2, 0, host.data());
  EXPECT_EQ(counts.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(counts.status().message().find("2 attention chunks needed"), std::string::npos);
}

}  // namespace
}  // namespace tessera::kernels::cuda
