// Products over the executor: every weight type, awkward shapes, and that an output's bits depend
// neither on how many rows there are nor on which kernel computed it.
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/e4m3.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"
#include "kernels/simulated/executor.h"
#include "tests/kernels/simulated/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

// Float32 sums, weights split into two bfloat16 parts at worst (2^-16 of each), and, where the
// output is bfloat16, its rounding.
std::vector<double> Tolerance(const MatrixView& w, const std::vector<float>& x, int64_t n,
                              const std::vector<double>& expected, bool rounded) {
  std::vector<double> tolerance = MatMulTolerance(w, x.data(), nullptr, n);
  for (size_t i = 0; i < tolerance.size(); ++i) {
    tolerance[i] = 4 * tolerance[i] + (w.dtype == DType::kF32 ? 1e-3 : 1e-6) +
                   (rounded ? kBf16Rounding * std::abs(expected[i]) : 0);
  }
  return tolerance;
}

class SimtMatMul : public ::testing::TestWithParam<DType> {
 protected:
  std::mt19937 random_{99};
};

std::vector<float> Logits(const WeightMatrix& w, const BFloat16* x, int64_t n) {
  DeviceArray<float> out(n * w.rows);
  RunLaunch(LaunchLogits(w, x, n, out.data(), nullptr));
  return {out.data(), out.data() + out.size()};
}

std::vector<float> Small(const WeightMatrix& w, const float* bias, const BFloat16* x, int64_t n) {
  DeviceArray<BFloat16> out(n * w.rows);
  const MatMulProduct product{w, bias, out.data()};
  RunLaunch(LaunchSmallMatMul(&product, 1, x, n, nullptr));
  return ToFloats(out);
}

std::vector<float> Tiled(const WeightMatrix& w, const float* bias, const BFloat16* x, int64_t n) {
  DeviceArray<BFloat16> out(n * w.rows);
  const MatMulProduct product{w, bias, out.data()};
  RunLaunch(LaunchTiledMatMul(&product, 1, x, n, nullptr));
  return ToFloats(out);
}

TEST_P(SimtMatMul, EqualsTheReference) {
  simt::SetChecks({.global_races = true});
  const DType dtype = GetParam();
  for (int64_t cols : {1, 5, 32, 64, 96, 100, 576, 1056}) {
    if (cols % BlockElements(dtype) != 0) continue;
    for (int64_t rows : {1, 16, 50}) {
      for (int64_t n : {1, 9, 17, 33, 65}) {
        const std::string what =
            absl::StrCat(std::string(DTypeName(dtype)), " ", rows, "x", cols, ", n ", n);
        const auto bytes = RandomWeights(dtype, rows, cols, random_);
        const MatrixView view{bytes.data(), dtype, rows, cols};
        const PackedMatrix packed = Pack(view);
        const auto x = RoundedToBf16(RandomFloats(n * cols, random_));
        const auto device_x = ToBf16(x);
        const auto expected = reference::MatMul(view, x.data(), nullptr, n);
        ExpectNear(Logits(packed.w, device_x.data(), n), expected,
                   Tolerance(view, x, n, expected, false), what + " logits");

        const auto bias = RandomFloats(rows, random_);
        const DeviceArray<float> device_bias(bias);
        const auto biased = reference::MatMul(view, x.data(), bias.data(), n);
        const auto tolerance = Tolerance(view, x, n, biased, true);
        const auto tiled = Tiled(packed.w, device_bias.data(), device_x.data(), n);
        ExpectNear(tiled, biased, tolerance, what + " tiled");
        if (n > kSmallMatMulRows) continue;
        const auto small = Small(packed.w, device_bias.data(), device_x.data(), n);
        ExpectSameBits(small.data(), tiled.data(), n * rows, what + " small as tiled");
      }
    }
  }
  simt::SetChecks({});
}

TEST_P(SimtMatMul, BitsDoNotDependOnTheBatch) {
  const DType dtype = GetParam();
  const int64_t rows = 40, cols = 1120, n = 70;
  const auto bytes = RandomWeights(dtype, rows, cols, random_);
  const PackedMatrix packed = Pack({bytes.data(), dtype, rows, cols});
  const auto x = ToBf16(RandomFloats(n * cols, random_));
  // In float32, where every bit of the sums shows: more than kSmallMatMulRows are tiled.
  const auto all = Logits(packed.w, x.data(), n);
  for (int64_t t : {0, 9, 63, 64, 69}) {
    const auto one = Logits(packed.w, x.data() + t * cols, 1);
    ExpectSameBits(one.data(), &all[t * rows], rows, absl::StrCat("token ", t));
  }
  for (int64_t count : {13, 31, 50}) {
    const auto some = Logits(packed.w, x.data() + 20 * cols, count);
    ExpectSameBits(some.data(), &all[20 * rows], count * rows, absl::StrCat(count, " tokens"));
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, SimtMatMul, ::testing::ValuesIn(AllDTypes()),
                         [](const auto& param) { return std::string(DTypeName(param.param)); });

TEST(SimtMatMulGroups, ProductsOfDifferentTypesShareTheirInput) {
  std::mt19937 random(5);
  const int64_t cols = 192, n = 2;
  const DType types[] = {DType::kQ4_K32, DType::kQ6_K32, DType::kQ4_K32, DType::kBF16};
  const int64_t rows[] = {48, 16, 20, 5};
  const auto x = ToBf16(RandomFloats(n * cols, random));
  std::vector<PackedMatrix> packed;
  std::vector<DeviceArray<BFloat16>> outs;
  std::vector<MatMulProduct> products;
  for (int p = 0; p < 4; ++p) {
    const auto bytes = RandomWeights(types[p], rows[p], cols, random);
    packed.push_back(Pack({bytes.data(), types[p], rows[p], cols}));
    outs.emplace_back(n * rows[p]);
    products.push_back({packed[p].w, nullptr, outs[p].data()});
  }
  RunLaunch(LaunchSmallMatMul(products.data(), 4, x.data(), n, nullptr));
  for (int p = 0; p < 4; ++p) {
    const auto alone = Small(packed[p].w, nullptr, x.data(), n);
    ExpectSameBits(ToFloats(outs[p]).data(), alone.data(), n * rows[p],
                   absl::StrCat("product ", p));
  }
  for (auto& out : outs) std::memset(static_cast<void*>(out.data()), 0xff, out.size() * 2);
  RunLaunch(LaunchTiledMatMul(products.data(), 4, x.data(), n, nullptr));
  for (int p = 0; p < 4; ++p) {
    const auto alone = Small(packed[p].w, nullptr, x.data(), n);
    ExpectSameBits(ToFloats(outs[p]).data(), alone.data(), n * rows[p],
                   absl::StrCat("tiled product ", p));
  }
}

TEST(SimtMatMulGroups, InputThatDoesNotStartAtSixteenBytes) {
  std::mt19937 random(6);
  for (DType dtype : {DType::kQ4_0, DType::kQ6_K32, DType::kF16}) {
    const auto bytes = RandomWeights(dtype, 33, 160, random);
    const PackedMatrix packed = Pack({bytes.data(), dtype, 33, 160});
    const auto floats = RandomFloats(3 * 160, random);
    const auto aligned = ToBf16(floats);
    const auto shifted = ToBf16(floats, 3);
    const auto expected = Small(packed.w, nullptr, aligned.data(), 3);
    const auto small = Small(packed.w, nullptr, shifted.data(), 3);
    const auto tiled = Tiled(packed.w, nullptr, shifted.data(), 3);
    ExpectSameBits(small.data(), expected.data(), 99, "small");
    ExpectSameBits(tiled.data(), expected.data(), 99, "tiled");
  }
}

// Every row by its own largest, to the bits of the host's rounding.
TEST(SimtQuantizeRows, RoundsEveryRowToE4M3WithItsScale) {
  simt::SetChecks({.global_races = true});
  std::mt19937 random(8);
  for (int64_t cols : {16, 96, 576, 2064}) {
    const int64_t n = 5;
    auto x = RoundedToBf16(RandomFloats(n * cols, random));
    for (int64_t c = 0; c < cols; ++c) {
      x[c] *= 1e-3f;
      x[2 * cols + c] = c % 7 == 0 ? -0.0f : 0.0f;
      x[3 * cols + c] *= 3e30f;
    }
    x = RoundedToBf16(x);
    const auto device_x = ToBf16(x);
    DeviceArray<uint8_t> codes(n * cols);
    DeviceArray<float> scales(n);
    RunLaunch(LaunchQuantizeRows(device_x.data(), n, cols, codes.data(), scales.data(), nullptr));
    for (int64_t t = 0; t < n; ++t) {
      float largest = 0;
      for (int64_t c = 0; c < cols; ++c) largest = std::max(largest, std::fabs(x[t * cols + c]));
      const float scale = largest == 0 ? 1 : largest / kE4M3Max;
      ASSERT_EQ(scales[t], scale) << t;
      for (int64_t c = 0; c < cols; ++c) {
        ASSERT_EQ(codes[t * cols + c], FloatToE4M3(x[t * cols + c] * (1.0f / scale)))
            << "row " << t << ", column " << c << ": " << x[t * cols + c];
      }
    }
  }
  simt::SetChecks({});
}

TEST(SimtQuantizeRows, KeepsWhatIsNoNumber) {
  std::vector<float> x(32, 1.0f);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[16 + 5] = -std::numeric_limits<float>::infinity();
  const auto device_x = ToBf16(x);
  DeviceArray<uint8_t> codes(32);
  DeviceArray<float> scales(2);
  RunLaunch(LaunchQuantizeRows(device_x.data(), 2, 16, codes.data(), scales.data(), nullptr));
  EXPECT_TRUE(IsE4M3Nan(codes[3]));
  EXPECT_EQ(codes[4], 0x7e);
  EXPECT_TRUE(IsE4M3Nan(codes[16 + 5]));
}

// A row of all bfloat16 numbers from 2^-13 to 448.
TEST(SimtQuantizeRows, EveryCodeAndWhatLiesBetween) {
  std::vector<float> x;
  for (uint32_t bits = 0x3900; bits <= 0x43e0; ++bits) x.push_back(FloatFromBits(bits << 16));
  while (x.size() % 8 != 0) x.push_back(0);
  const auto device_x = ToBf16(x);
  DeviceArray<uint8_t> codes(x.size());
  DeviceArray<float> scales(1);
  RunLaunch(LaunchQuantizeRows(device_x.data(), 1, x.size(), codes.data(), scales.data(), nullptr));
  ASSERT_EQ(scales[0], 1.0f);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(codes[i], FloatToE4M3(x[i])) << x[i];
}

TEST(SimtQuantizeRows, RefusesRowsThatAreNotWholeVectors) {
  EXPECT_EQ(LaunchQuantizeRows(nullptr, 1, 12, nullptr, nullptr, nullptr), kNoSuchKernel);
}

TEST(SimtMatMulGroups, MoreRowsThanTheSmallKernelTakes) {
  const MatMulProduct product;
  EXPECT_EQ(LaunchSmallMatMul(&product, 1, nullptr, kSmallMatMulRows + 1, nullptr), kNoSuchKernel);
}

}  // namespace
}  // namespace tessera::kernels::cuda
