// Embed, RMSNorm with and without a sum before it or behind it, and in parts of its columns, SiluMul,
// Add, GatherRows and SampleRows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/gumbel.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

class ElementwiseTest : public testing::TestWithParam<std::string> {
 protected:
  bool gpu() const { return IsGpu(GetParam()); }
  std::mt19937 random_{4711};
};

// This is also the proof that vectors decode weights to the same bits as the grammar in tensor.h.
TEST_P(ElementwiseTest, EmbedIsTheReferenceRowBitForBit) {
  HostOps ops(DeviceOf(GetParam()));
  for (DType dtype : TestDTypes()) {
    for (int64_t cols : {1, 5, 33, 64, 96, 576}) {
      if (cols % BlockElements(dtype) != 0) continue;
      const int64_t rows = 37;
      const auto bytes = RandomWeights(dtype, rows, cols, random_);
      std::vector<int32_t> ids(rows);
      std::iota(ids.begin(), ids.end(), 0);
      const auto out = ops.Embed({bytes.data(), dtype, rows, cols}, ids, 0);
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> expected(cols);
        reference::DequantizeRow(dtype, &bytes[r * RowBytes(dtype, cols)], 0, cols,
                                 expected.data());
        expected = ops.Rounded(expected);
        ExpectSameBits(&out[r * cols], expected.data(), cols,
                       absl::StrCat(std::string(DTypeName(dtype)), ", cols ", cols, ", row ", r));
      }
    }
  }
}

TEST_P(ElementwiseTest, EmbedGivesZerosForRowsOfOtherRanks) {
  HostOps ops(DeviceOf(GetParam()));
  const int64_t cols = 32;
  const auto bytes = RandomWeights(DType::kQ8_0, 10, cols, random_);
  // The table holds rows 100 to 109 of the vocabulary.
  const std::vector<int32_t> ids = {99, 100, 109, 110, 0, 104, 104, 2147483647};
  const std::vector<int> local = {-1, 0, 9, -1, -1, 4, 4, -1};
  const auto out = ops.Embed({bytes.data(), DType::kQ8_0, 10, cols}, ids, 100);
  for (size_t t = 0; t < ids.size(); ++t) {
    std::vector<float> expected(cols, 0.0f);
    if (local[t] >= 0) {
      reference::DequantizeRow(DType::kQ8_0, &bytes[local[t] * RowBytes(DType::kQ8_0, cols)], 0,
                               cols, expected.data());
    }
    expected = ops.Rounded(expected);
    ExpectSameBits(&out[t * cols], expected.data(), cols, absl::StrCat("id ", ids[t]));
  }
}

TEST_P(ElementwiseTest, EmbedMultipliesRowsByTheScale) {
  HostOps ops(DeviceOf(GetParam()));
  const int64_t cols = 96;
  const auto bytes = RandomWeights(DType::kQ8_0, 10, cols, random_);
  const std::vector<int32_t> ids = {3, 0, 9, 12};
  const auto out = ops.Embed({bytes.data(), DType::kQ8_0, 10, cols}, ids, 0, 5.5f);
  for (size_t t = 0; t < ids.size(); ++t) {
    std::vector<float> expected(cols, 0.0f);
    if (ids[t] < 10) {
      reference::DequantizeRow(DType::kQ8_0, &bytes[ids[t] * RowBytes(DType::kQ8_0, cols)], 0, cols,
                               expected.data());
    }
    for (float& value : expected) value *= 5.5f;
    expected = ops.Rounded(expected);
    ExpectSameBits(&out[t * cols], expected.data(), cols, absl::StrCat("id ", ids[t]));
  }
}

TEST_P(ElementwiseTest, RmsNormEqualsTheReference) {
  HostOps ops(DeviceOf(GetParam()));
  for (int64_t cols : {1, 3, 8, 24, 64, 100, 576, 4096}) {
    for (int64_t rows : {1, 5, 40}) {
      const auto x = RandomFloats(rows * cols, random_);
      const auto weight = RandomFloats(cols, random_);
      ExpectNear(ops.RmsNorm(x, weight, 1e-5f, rows, cols),
                 reference::RmsNorm(ops.Rounded(x).data(), weight.data(), 1e-5f, rows, cols),
                 2e-6 + Rounding(ops.device()), absl::StrCat("rows ", rows, ", cols ", cols));
    }
  }
}

TEST_P(ElementwiseTest, RmsNormOfZerosIsZero) {
  HostOps ops(DeviceOf(GetParam()));
  const std::vector<float> x(24, 0.0f);
  const auto weight = RandomFloats(24, random_);
  for (float value : ops.RmsNorm(x, weight, 1e-6f, 1, 24)) EXPECT_EQ(value, 0.0f);
}

TEST_P(ElementwiseTest, RmsNormHasTheSameBitsInPlaceAloneAndOnThreads) {
  HostOps one(DeviceOf(GetParam(), 1));
  HostOps three(DeviceOf(GetParam(), 3));
  const int64_t rows = 70;
  const int64_t cols = 577;
  const auto x = RandomFloats(rows * cols, random_);
  const auto weight = RandomFloats(cols, random_);
  std::vector<float> alone;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<float> row(&x[r * cols], &x[r * cols] + cols);
    const auto normed = one.RmsNorm(row, weight, 1e-5f, 1, cols);
    alone.insert(alone.end(), normed.begin(), normed.end());
  }
  for (HostOps* ops : {&one, &three}) {
    const auto in_place = ops->RmsNorm(x, weight, 1e-5f, rows, cols, /*in_place=*/true);
    ExpectSameBits(in_place.data(), alone.data(), rows * cols, ops->device().Name());
  }
}

TEST_P(ElementwiseTest, AddRmsNormIsAddThenRmsNorm) {
  for (int threads : {1, 3}) {
    HostOps ops(DeviceOf(GetParam(), threads));
    for (int64_t cols : {1, 7, 64, 577}) {
      for (int64_t rows : {1, 3, 70}) {
        const auto x = RandomFloats(rows * cols, random_);
        const auto y = RandomFloats(rows * cols, random_);
        const auto weight = RandomFloats(cols, random_);
        for (float scale : {1.0f, 0.22f}) {
          const auto [sum, normed] = ops.AddRmsNorm(y, weight, 1e-5f, rows, cols, x, scale);
          const std::string what = absl::StrCat("rows ", rows, ", cols ", cols, " by ", scale);
          ExpectSameBits(sum.data(), ops.Add(y, x, scale).data(), rows * cols, what);
          ExpectSameBits(normed.data(), ops.RmsNorm(sum, weight, 1e-5f, rows, cols).data(),
                         rows * cols, what);
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, AddNormedEqualsTheReferenceAndDoesNotDependOnRowsOrThreads) {
  HostOps ops(DeviceOf(GetParam(), 1));
  HostOps threads(DeviceOf(GetParam(), 3));
  for (int64_t cols : {1, 7, 24, 64, 577}) {
    for (int64_t rows : {1, 5, 70}) {
      const auto x = RandomFloats(rows * cols, random_);
      const auto y = RandomFloats(rows * cols, random_);
      const auto weight = RandomFloats(cols, random_);
      const std::string what = absl::StrCat("rows ", rows, ", cols ", cols);
      const auto sum = ops.AddNormed(y, 0.7f, weight, 1e-5f, rows, cols, x);
      ExpectNear(sum,
                 reference::AddNormed(ops.Rounded(y).data(), 0.7f, weight.data(), 1e-5f, rows, cols,
                                      ops.Rounded(x).data()),
                 2e-6 + Rounding(ops.device()), what);
      const auto on_threads = threads.AddNormed(y, 0.7f, weight, 1e-5f, rows, cols, x);
      ExpectSameBits(on_threads.data(), sum.data(), rows * cols, what);
      const int64_t last = (rows - 1) * cols;
      const auto alone = ops.AddNormed({&y[last], &y[last] + cols}, 0.7f, weight, 1e-5f, 1, cols,
                                       {&x[last], &x[last] + cols});
      ExpectSameBits(alone.data(), &sum[last], cols, what);
    }
  }
}

// Three ranks, of whose columns two share some: those that both hold count once.
TEST_P(ElementwiseTest, RmsNormInPartsEqualsTheReference) {
  for (int threads : {1, 3}) {
    HostOps ops(DeviceOf(GetParam(), threads));
    for (int64_t unit : {1, 8, 64}) {
      const int64_t rows = 40, cols = 9 * unit;
      const auto x = RandomFloats(rows * cols, random_);
      const auto weight = RandomFloats(cols, random_);
      const auto expected = reference::RmsNorm(ops.Rounded(x).data(), weight.data(), 1e-5, rows,
                                               cols);
      const std::vector<HostOps::ColumnPart> parts = {{0, 4 * unit, 0, 4 * unit},
                                                      {3 * unit, 7 * unit, 4 * unit, 7 * unit},
                                                      {7 * unit, cols, 7 * unit, cols}};
      const auto normed = ops.RmsNormInParts(x, weight, 1e-5f, rows, cols, parts);
      for (size_t i = 0; i < parts.size(); ++i) {
        std::vector<double> own;
        for (int64_t r = 0; r < rows; ++r) {
          own.insert(own.end(), &expected[r * cols + parts[i].from],
                     &expected[r * cols] + parts[i].to);
        }
        ExpectNear(normed[i], own, 2e-6 + Rounding(ops.device()),
                   absl::StrCat("unit ", unit, ", part ", i));
      }
    }
  }
}

// On a CPU the sums are exact enough for all cuts to round to the same numbers.
TEST_P(ElementwiseTest, HowColumnsAreCutDoesNotShowInTheNorm) {
  HostOps ops(DeviceOf(GetParam()));
  if (gpu()) GTEST_SKIP() << "sums in float32 show how they were cut";
  const int64_t rows = 40, cols = 96;
  const auto x = RandomFloats(rows * cols, random_);
  const auto weight = RandomFloats(cols, random_);
  const auto whole = ops.RmsNormInParts(x, weight, 1e-5f, rows, cols, {{0, cols, 0, cols}})[0];
  const auto cut = ops.RmsNormInParts(x, weight, 1e-5f, rows, cols,
                                      {{0, 56, 0, 56}, {40, 96, 56, 96}});
  for (int64_t r = 0; r < rows; ++r) {
    ExpectSameBits(&cut[0][r * 56], &whole[r * cols], 56, absl::StrCat("first of row ", r));
    ExpectSameBits(&cut[1][r * 56], &whole[r * cols + 40], 56, absl::StrCat("last of row ", r));
  }
}

TEST_P(ElementwiseTest, GatherRowsTakesRowsInTheOrderAskedFor) {
  HostOps ops(DeviceOf(GetParam()));
  const int64_t cols = 19;
  const auto x = RandomFloats(9 * cols, random_);
  const std::vector<int64_t> rows = {8, 0, 3, 3};
  const auto out = ops.GatherRows(x, rows, cols);
  const auto rounded = ops.Rounded(x);
  for (size_t i = 0; i < rows.size(); ++i) {
    ExpectSameBits(&out[i * cols], &rounded[rows[i] * cols], cols, absl::StrCat("row ", rows[i]));
  }
}

TEST_P(ElementwiseTest, SiluMulEqualsTheReferenceFarOut) {
  HostOps ops(DeviceOf(GetParam()));
  std::vector<float> gate;
  for (int i = -4000; i <= 4000; ++i) gate.push_back(static_cast<float>(i) * 0.0251f);
  for (float value : {-1e30f, -1000.0f, -88.5f, -87.0f, 87.0f, 88.5f, 1000.0f, 1e30f, 0.0f, -0.0f,
                      1e-30f, -1e-40f}) {
    gate.push_back(value);
  }
  const auto up = RandomFloats(static_cast<int64_t>(gate.size()), random_);
  const auto expected = reference::SiluMul(ops.Rounded(gate).data(), ops.Rounded(up).data(),
                                           static_cast<int64_t>(gate.size()));
  const auto out = ops.SiluMul(gate, up);
  std::vector<double> tolerance;
  for (size_t i = 0; i < gate.size(); ++i) {
    // Relative to the value; far left it underflows, where e^88 bounds what is left of it.
    tolerance.push_back(6e-7 * std::fabs(expected[i]) + std::fabs(gate[i] * up[i]) * 6.1e-39 +
                        (gpu() ? 1e-40 : 1e-44));  // the smallest step of the type
  }
  ExpectNear(out, expected, Widened(std::move(tolerance), expected, Rounding(ops.device())),
             "silu");
}

TEST_P(ElementwiseTest, SiluMulPassesNotANumberOn) {
  HostOps ops(DeviceOf(GetParam()));
  std::vector<float> gate(20, 1.0f);
  gate[3] = std::numeric_limits<float>::quiet_NaN();
  gate[19] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> up(20, 2.0f);
  const auto out = ops.SiluMul(gate, up);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(out[i]), i == 3 || i == 19) << i;
}

// An element has the same bits at the front, in a vector's middle, in the tail, and on threads.
TEST_P(ElementwiseTest, SiluMulDoesNotDependOnLaneOrThread) {
  HostOps one(DeviceOf(GetParam(), 1));
  HostOps three(DeviceOf(GetParam(), 3));
  const int64_t count = gpu() ? 5'003 : 100'003;
  const auto gate = RandomFloats(count, random_);
  const auto up = RandomFloats(count, random_);
  const auto whole = one.SiluMul(gate, up);
  const auto in_place = three.SiluMul(gate, up, /*in_place=*/true);
  ExpectSameBits(in_place.data(), whole.data(), count, "three threads, in place");
  for (int64_t first : {1, 2, 3, 7, 15, 16, 17}) {
    for (int64_t length : {1, 2, 5, 16, 31, 40}) {
      const auto part =
          one.SiluMul({&gate[first], &gate[first] + length}, {&up[first], &up[first] + length});
      ExpectSameBits(part.data(), &whole[first], length, absl::StrCat(length, " from ", first));
    }
  }
}

TEST_P(ElementwiseTest, AddAdds) {
  for (int threads : {1, 3}) {
    HostOps ops(DeviceOf(GetParam(), threads));
    for (int64_t count : {0, 1, 7, 577, gpu() ? 10'001 : 300'001}) {
      const auto x = ops.Rounded(RandomFloats(count, random_));
      const auto y = ops.Rounded(RandomFloats(count, random_));
      std::vector<float> expected(count);
      for (int64_t i = 0; i < count; ++i) expected[i] = x[i] + y[i];
      EXPECT_EQ(ops.Add(y, x), ops.Rounded(expected));
    }
  }
}

// The sample with the host's own noise, the greedy one, the masses and the best of each row.
TEST_P(ElementwiseTest, SamplesRowsAsTheHostWould) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  const int most = device.MaxCandidates();
  if (most == 0) GTEST_SKIP() << "this device does not look at logits";
  const int32_t first_id = 128;
  const std::vector<SampleRow> asked = {
      {.seed = 1, .position = 0, .temperature = 0, .num_candidates = 0},
      {.seed = 1, .position = 7, .temperature = 1, .num_candidates = 1},
      {.seed = ~uint64_t{0}, .position = 1 << 20, .temperature = 5, .num_candidates = most},
      {.seed = 9, .position = 3, .temperature = 1, .num_candidates = 0}};
  const auto rows = static_cast<int64_t>(asked.size());
  for (int64_t vocab : {1, 2, 31, 1025, 5000}) {
    std::vector<float> logits = RandomFloats(rows * vocab, random_);
    for (float& logit : logits) logit *= 3;
    logits.back() = std::numeric_limits<float>::quiet_NaN();  // of the last row
    auto memory = device.Allocate(logits.size() * sizeof(float));
    ASSERT_TRUE(memory.ok());
    ASSERT_TRUE(device.WriteBytes(logits.data(), logits.size() * sizeof(float), memory->get()).ok());
    std::vector<SampledRow> sampled(rows);
    std::vector<Candidate> candidates(rows * most);
    const absl::Status looked =
        device.SampleRows(reinterpret_cast<const float*>(memory->get()), vocab, first_id, asked,
                          sampled.data(), candidates.data());
    ASSERT_TRUE(looked.ok()) << looked;
    EXPECT_FALSE(sampled[rows - 1].finite()) << "vocab " << vocab;
    for (int64_t r = 0; r + 1 < rows; ++r) {
      const std::string what = absl::StrCat("vocab ", vocab, ", row ", r);
      const float* row = &logits[r * vocab];
      const SampleRow& row_asked = asked[r];
      const SampledRow& found = sampled[r];
      std::vector<int32_t> order(vocab);  // best first, ties by lowest id
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [row](int32_t a, int32_t b) { return row[a] > row[b]; });
      const auto mass = [row, vocab](double temperature) {
        double sum = 0;
        for (int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] / temperature);
        return std::log(sum);
      };
      EXPECT_TRUE(found.finite()) << what;
      EXPECT_EQ(found.greedy_id, first_id + order[0]) << what;
      EXPECT_EQ(found.greedy_logit, row[order[0]]) << what;
      EXPECT_LE(std::abs(found.raw_mass - mass(1)), 1e-4) << what;
      int32_t chosen = order[0];
      if (row_asked.temperature > 0) {
        const NoiseRow noise(row_asked.seed, row_asked.position);
        const auto score = [&](int32_t i) {
          return row[i] / double{row_asked.temperature} + noise.Gumbel(first_id + i);
        };
        for (int32_t i = 0; i < vocab; ++i) chosen = score(i) > score(chosen) ? i : chosen;
        EXPECT_LE(std::abs(found.score - score(chosen)), 1e-12 * std::abs(score(chosen))) << what;
        EXPECT_LE(std::abs(found.scaled_mass - mass(row_asked.temperature)), 1e-4) << what;
      }
      EXPECT_EQ(found.id, first_id + chosen) << what;
      EXPECT_EQ(found.logit, row[chosen]) << what;
      for (int c = 0; c < row_asked.num_candidates; ++c) {
        const Candidate& candidate = candidates[r * most + c];
        EXPECT_EQ(candidate.id, c < vocab ? first_id + order[c] : -1) << what << ", place " << c;
        if (candidate.id < 0) continue;
        EXPECT_EQ(candidate.logit, row[candidate.id - first_id]) << what << ", place " << c;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, ElementwiseTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
