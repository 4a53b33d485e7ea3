// Embed, RMSNorm, RoPE, SiluMul and Add.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

class ElementwiseTest : public testing::TestWithParam<std::string> {
 protected:
  std::mt19937 random_{4711};
};

// This is also the proof that vectors decode weights to the same bits as the grammar in tensor.h.
TEST_P(ElementwiseTest, EmbedIsTheReferenceRowBitForBit) {
  auto device = DeviceOf(GetParam());
  for (DType dtype : AllDTypes()) {
    for (int64_t cols : {1, 5, 33, 64, 96, 576}) {
      if (cols % BlockElements(dtype) != 0) continue;
      const int64_t rows = 37;
      const auto bytes = RandomWeights(dtype, rows, cols, random_);
      std::vector<int32_t> ids(rows);
      std::iota(ids.begin(), ids.end(), 0);
      std::vector<float> out(rows * cols);
      device->Embed({bytes.data(), dtype, rows, cols}, ids.data(), 0, rows, out.data());
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> expected(cols);
        reference::DequantizeRow(dtype, &bytes[r * RowBytes(dtype, cols)], 0, cols,
                                 expected.data());
        ExpectSameBits(&out[r * cols], expected.data(), cols,
                       absl::StrCat(std::string(DTypeName(dtype)), ", cols ", cols, ", row ", r));
      }
    }
  }
}

TEST_P(ElementwiseTest, EmbedGivesZerosForRowsOfOtherRanks) {
  auto device = DeviceOf(GetParam());
  const int64_t cols = 32;
  const auto bytes = RandomWeights(DType::kQ8_0, 10, cols, random_);
  // The table holds rows 100 to 109 of the vocabulary.
  const std::vector<int32_t> ids = {99, 100, 109, 110, 0, 104, 104, 2147483647};
  const std::vector<int> local = {-1, 0, 9, -1, -1, 4, 4, -1};
  std::vector<float> out(ids.size() * cols, 7.0f);
  device->Embed({bytes.data(), DType::kQ8_0, 10, cols}, ids.data(), 100, 8, out.data());
  for (size_t t = 0; t < ids.size(); ++t) {
    std::vector<float> expected(cols, 0.0f);
    if (local[t] >= 0) {
      reference::DequantizeRow(DType::kQ8_0, &bytes[local[t] * RowBytes(DType::kQ8_0, cols)], 0,
                               cols, expected.data());
    }
    ExpectSameBits(&out[t * cols], expected.data(), cols, absl::StrCat("id ", ids[t]));
  }
}

TEST_P(ElementwiseTest, RmsNormEqualsTheReference) {
  auto device = DeviceOf(GetParam());
  for (int64_t cols : {1, 3, 8, 24, 64, 100, 576, 4096}) {
    for (int64_t rows : {1, 5, 40}) {
      const auto x = RandomFloats(rows * cols, random_);
      const auto weight = RandomFloats(cols, random_);
      std::vector<float> out(x.size());
      device->RmsNorm(x.data(), weight.data(), 1e-5f, rows, cols, out.data());
      ExpectNear(out, reference::RmsNorm(x.data(), weight.data(), 1e-5f, rows, cols), 2e-6,
                 absl::StrCat("rows ", rows, ", cols ", cols));
    }
  }
}

TEST_P(ElementwiseTest, RmsNormOfZerosIsZero) {
  auto device = DeviceOf(GetParam());
  const std::vector<float> x(24, 0.0f);
  const auto weight = RandomFloats(24, random_);
  std::vector<float> out(24, 1.0f);
  device->RmsNorm(x.data(), weight.data(), 1e-6f, 1, 24, out.data());
  for (float value : out) EXPECT_EQ(value, 0.0f);
}

TEST_P(ElementwiseTest, RmsNormHasTheSameBitsInPlaceAloneAndOnThreads) {
  auto one = DeviceOf(GetParam(), 1);
  auto three = DeviceOf(GetParam(), 3);
  const int64_t rows = 70;
  const int64_t cols = 577;
  const auto x = RandomFloats(rows * cols, random_);
  const auto weight = RandomFloats(cols, random_);
  std::vector<float> alone(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    one->RmsNorm(&x[r * cols], weight.data(), 1e-5f, 1, cols, &alone[r * cols]);
  }
  for (Device* device : {one.get(), three.get()}) {
    auto in_place = x;
    device->RmsNorm(in_place.data(), weight.data(), 1e-5f, rows, cols, in_place.data());
    ExpectSameBits(in_place.data(), alone.data(), rows * cols, device->Name());
  }
}

TEST_P(ElementwiseTest, RopeEqualsTheReferenceInBothPairings) {
  auto device = DeviceOf(GetParam());
  const int max_positions = 300;
  for (int rope_dim : {2, 8, 20, 64}) {
    const int pairs = rope_dim / 2;
    std::vector<float> cos(max_positions * pairs);
    std::vector<float> sin(max_positions * pairs);
    for (int p = 0; p < max_positions; ++p) {
      for (int i = 0; i < pairs; ++i) {
        const double angle = p * std::pow(10000.0, -2.0 * i / rope_dim);
        cos[p * pairs + i] = static_cast<float>(std::cos(angle));
        sin[p * pairs + i] = static_cast<float>(std::sin(angle));
      }
    }
    for (bool interleaved : {false, true}) {
      for (int head_dim : {rope_dim, rope_dim + 3, rope_dim + 16}) {
        const RopeTable table{cos.data(), sin.data(), rope_dim, interleaved};
        const std::vector<int32_t> positions = {0, 1, 17, 299, 42};
        const int heads = 3;
        const auto x = RandomFloats(5 * heads * head_dim, random_);
        auto turned = x;
        device->Rope(table, positions.data(), 5, heads, head_dim, turned.data());
        const std::string what = absl::StrCat("rope_dim ", rope_dim, ", head_dim ", head_dim,
                                              interleaved ? ", neighbours" : ", halves");
        ExpectNear(turned, reference::Rope(table, positions.data(), 5, heads, head_dim, x.data()),
                   1e-6, what);
        for (int64_t h = 0; h < 5 * heads; ++h) {  // what does not turn passes through
          ExpectSameBits(&turned[h * head_dim + rope_dim], &x[h * head_dim + rope_dim],
                         head_dim - rope_dim, what);
        }
        for (int64_t t = 0; t < 5; ++t) {  // a token alone
          std::vector<float> alone(&x[t * heads * head_dim],
                                   &x[t * heads * head_dim] + heads * head_dim);
          device->Rope(table, &positions[t], 1, heads, head_dim, alone.data());
          ExpectSameBits(alone.data(), &turned[t * heads * head_dim], heads * head_dim, what);
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, SiluMulEqualsTheReferenceFarOut) {
  auto device = DeviceOf(GetParam());
  std::vector<float> gate;
  for (int i = -4000; i <= 4000; ++i) gate.push_back(static_cast<float>(i) * 0.0251f);
  for (float value : {-1e30f, -1000.0f, -88.5f, -87.0f, 87.0f, 88.5f, 1000.0f, 1e30f, 0.0f, -0.0f,
                      1e-30f, -1e-40f}) {
    gate.push_back(value);
  }
  const auto up = RandomFloats(static_cast<int64_t>(gate.size()), random_);
  const auto expected =
      reference::SiluMul(gate.data(), up.data(), static_cast<int64_t>(gate.size()));
  std::vector<float> out(gate.size());
  device->SiluMul(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
  std::vector<double> tolerance;
  for (size_t i = 0; i < gate.size(); ++i) {
    // Relative to the value; far left it underflows, where e^88 bounds what is left of it.
    tolerance.push_back(6e-7 * std::fabs(expected[i]) + std::fabs(gate[i] * up[i]) * 6.1e-39 +
                        1e-44);
  }
  ExpectNear(out, expected, tolerance, "silu");
}

TEST_P(ElementwiseTest, SiluMulPassesNotANumberOn) {
  auto device = DeviceOf(GetParam());
  std::vector<float> gate(20, 1.0f);
  gate[3] = std::numeric_limits<float>::quiet_NaN();
  gate[19] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> up(20, 2.0f);
  std::vector<float> out(20);
  device->SiluMul(gate.data(), up.data(), 20, out.data());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(out[i]), i == 3 || i == 19) << i;
}

// An element has the same bits at the front, in a vector's middle, in the tail, and on threads.
TEST_P(ElementwiseTest, SiluMulDoesNotDependOnLaneOrThread) {
  auto one = DeviceOf(GetParam(), 1);
  auto three = DeviceOf(GetParam(), 3);
  const int64_t count = 100'003;
  const auto gate = RandomFloats(count, random_);
  const auto up = RandomFloats(count, random_);
  std::vector<float> whole(count);
  one->SiluMul(gate.data(), up.data(), count, whole.data());
  auto in_place = gate;
  three->SiluMul(in_place.data(), up.data(), count, in_place.data());
  ExpectSameBits(in_place.data(), whole.data(), count, "three threads, in place");
  for (int64_t first : {1, 2, 3, 7, 15, 16, 17}) {
    for (int64_t length : {1, 2, 5, 16, 31, 40}) {
      std::vector<float> part(length);
      one->SiluMul(&gate[first], &up[first], length, part.data());
      ExpectSameBits(part.data(), &whole[first], length, absl::StrCat(length, " from ", first));
    }
  }
}

TEST_P(ElementwiseTest, AddAdds) {
  for (int threads : {1, 3}) {
    auto device = DeviceOf(GetParam(), threads);
    for (int64_t count : {0, 1, 7, 577, 300'001}) {
      const auto x = RandomFloats(count, random_);
      const auto y = RandomFloats(count, random_);
      std::vector<float> expected(count);
      for (int64_t i = 0; i < count; ++i) expected[i] = x[i] + y[i];
      auto sum = x;
      device->Add(y.data(), count, sum.data());
      EXPECT_EQ(sum, expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, ElementwiseTest, testing::ValuesIn(InstructionSets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
