#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/e4m3.h"
#include "kernels/half.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

TEST(TensorTest, RowBytesAreWholeBlocks) {
  EXPECT_EQ(RowBytes(DType::kF32, 5), 20u);
  EXPECT_EQ(RowBytes(DType::kBF16, 5), 10u);
  EXPECT_EQ(RowBytes(DType::kQ8_0, 576), 18u * 34);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(RowBytes(DType::kQ4_1, 64), 40u);
  EXPECT_EQ(RowBytes(DType::kQ5_0, 64), 44u);
  EXPECT_EQ(RowBytes(DType::kQ5_1, 64), 48u);
  EXPECT_EQ(RowBytes(DType::kQ4_K32, 64), 44u);
  EXPECT_EQ(RowBytes(DType::kQ5_K32, 64), 52u);
  EXPECT_EQ(RowBytes(DType::kQ6_K32, 64), 56u);
  EXPECT_EQ(RowBytes(DType::kQ6_K32, 0), 0u);
  EXPECT_EQ(RowBytes(DType::kF8E4M3, 5), 4u + 5);
}

TEST(TensorTest, NamesAreDistinct) {
  for (DType a : AllDTypes()) {
    for (DType b : AllDTypes()) EXPECT_EQ(DTypeName(a) == DTypeName(b), a == b);
  }
}

// All 65,536 halves by the definition of IEEE 754 binary16.
TEST(HalfTest, EveryHalfBecomesItsFloat) {
  for (int half = 0; half < 65536; ++half) {
    const int sign = half >> 15;
    const int exponent = half >> 10 & 31;
    const int mantissa = half & 1023;
    const float actual = HalfToFloat(static_cast<uint16_t>(half));
    EXPECT_EQ(std::signbit(actual), sign == 1) << half;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(actual), mantissa != 0) << half;
      EXPECT_EQ(std::isinf(actual), mantissa == 0) << half;
      continue;
    }
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    EXPECT_EQ(std::fabs(static_cast<double>(actual)), magnitude) << half;
  }
}

// The instruction sets' own conversions, seen through a one-column table.
TEST(HalfTest, EveryHalfIsTheSameOnEveryInstructionSet) {
  std::vector<uint16_t> halves(65536);
  std::vector<float> expected(65536);
  for (int i = 0; i < 65536; ++i) {
    halves[i] = static_cast<uint16_t>(i);
    expected[i] = HalfToFloat(halves[i]);
  }
  for (const std::string& set : TestDevices()) {
    HostOps ops(DeviceOf(set));
    const std::vector<float> out = ops.Embed({halves.data(), DType::kF16, 1, 65536}, {0}, 0);
    ExpectSameBits(out.data(), expected.data(), 65536, set);
  }
}

TEST(HalfTest, BFloat16IsTheUpperHalfOfAFloat) {
  for (float value : {1.0f, -2.5f, 0.0f, 1e30f, 3.0e-39f}) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits &= 0xffff0000u;
    float expected;
    std::memcpy(&expected, &bits, 4);
    EXPECT_EQ(BFloat16ToFloat(static_cast<uint16_t>(bits >> 16)), expected);
  }
}

TEST(ReferenceTest, DequantizesAnyRangeOfARow) {
  std::mt19937 random(5);
  for (DType dtype : AllDTypes()) {
    const auto bytes = RandomWeights(dtype, 1, 128, random);
    std::vector<float> whole(128);
    reference::DequantizeRow(dtype, bytes.data(), 0, 128, whole.data());
    for (int begin : {0, 1, 31, 32, 50}) {
      for (int end : {begin, begin + 1, 63, 64, 128}) {
        if (end < begin) continue;
        std::vector<float> part(end - begin);
        reference::DequantizeRow(dtype, bytes.data(), begin, end, part.data());
        ExpectSameBits(part.data(), whole.data() + begin, end - begin, "range");
      }
    }
  }
}

// All 256 by OCP's definition.
TEST(E4M3Test, EveryNumberBecomesItsFloatAndComesBack) {
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = bits >> 3 & 15;
    const int mantissa = bits & 7;
    const float actual = E4M3ToFloat(static_cast<uint8_t>(bits));
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
    } else {
      const double magnitude =
          exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
      EXPECT_EQ(std::fabs(static_cast<double>(actual)), magnitude) << bits;
      EXPECT_EQ(std::signbit(actual), bits >= 128) << bits;
    }
    EXPECT_EQ(FloatToE4M3(actual), bits);
  }
}

// Between two neighbours the nearer one, halfway the even one, and one bit of the float decides.
TEST(E4M3Test, RoundsToTheNearest) {
  for (int bits = 0; bits < 0x7e; ++bits) {
    const float low = E4M3ToFloat(static_cast<uint8_t>(bits));
    const float high = E4M3ToFloat(static_cast<uint8_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(FloatToE4M3(middle), bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, 500.0f)), bits + 1);
    EXPECT_EQ(FloatToE4M3(-std::nextafter(middle, 500.0f)), 0x80 + bits + 1);
  }
  EXPECT_EQ(FloatToE4M3(1e9f), 0x7e);
  EXPECT_EQ(FloatToE4M3(-std::numeric_limits<float>::infinity()), 0xfe);
}

struct GoldenBlock {
  DType dtype;
  std::vector<uint8_t> bytes;
  std::vector<double> values;  // each is a float32
};

// By an independent implementation; see dequantize_golden.py.
const std::vector<GoldenBlock>& GoldenBlocks() {
  static const std::vector<GoldenBlock> blocks = {
#include "tests/kernels/dequantize_golden.inc"
  };
  return blocks;
}

TEST(HalfTest, FloatsRoundToTheNearestBFloat16TiesToEven) {
  const auto rounded = [](float value) { return BFloat16ToFloat(FloatToBFloat16(value)); };
  EXPECT_EQ(rounded(1.0f + 0x1p-8f), 1.0f);              // half way, to even
  EXPECT_EQ(rounded(1.0f + 0x1.8p-7f), 1.0f + 0x1p-6f);  // half way, to even
  EXPECT_EQ(rounded(1.0f + 0x1.01p-8f), 1.0f + 0x1p-7f);
  EXPECT_EQ(rounded(-1.0f - 0x1.01p-8f), -1.0f - 0x1p-7f);
  EXPECT_EQ(rounded(0x1.ffp127f), INFINITY);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(rounded(NAN)));
  EXPECT_TRUE(std::signbit(rounded(-0.0f)));
}

TEST(ReferenceTest, DequantizesAsGgufDoes) {
  for (const GoldenBlock& golden : GoldenBlocks()) {
    ASSERT_EQ(golden.bytes.size(), BlockBytes(golden.dtype)) << DTypeName(golden.dtype);
    std::vector<float> actual(32);
    reference::DequantizeRow(golden.dtype, golden.bytes.data(), 0, 32, actual.data());
    const std::vector<float> expected(golden.values.begin(), golden.values.end());
    ExpectSameBits(actual.data(), expected.data(), 32, std::string(DTypeName(golden.dtype)));
  }
}

}  // namespace
}  // namespace tessera::kernels
