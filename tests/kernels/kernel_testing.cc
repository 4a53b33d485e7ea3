#include "tests/kernels/kernel_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_device.h"
#include "kernels/e4m3.h"
#include "kernels/reference.h"

namespace tessera::kernels {
namespace {

void PutHalf(float value, uint8_t* p) {
  const uint16_t half = FloatToHalf(value);
  std::memcpy(p, &half, sizeof(half));
}

// Byte offsets within a quantized block that hold 16-bit floats.
std::vector<int> HalfOffsets(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K32:
    case DType::kQ5_K32:
      return {0, 2};
    default:
      return {0};
  }
}

}  // namespace

std::vector<std::string> TestDevices() {
#if TESSERA_TEST_GPU
  if (!NumGpus().ok()) return {};
  return {"cuda"};
#else
  return cpu::AvailableInstructionSets();
#endif
}

std::vector<DType> TestDTypes() {
  std::vector<DType> types = AllDTypes();
#if !TESSERA_TEST_GPU
  types.erase(std::find(types.begin(), types.end(), DType::kF8E4M3));
#endif
  return types;
}

std::unique_ptr<Device> DeviceOf(const std::string& name, int threads, DType kv_type) {
  auto device = IsGpu(name) ? MakeDevice("cuda", {.deterministic = true, .kv_type = kv_type})
                            : MakeDevice("cpu", {.threads = threads,
                                                 .instruction_set = name,
                                                 .kv_type = kv_type});
  EXPECT_TRUE(device.ok()) << device.status();
  return device.ok() ? *std::move(device) : nullptr;
}

std::vector<DType> KvTypesOf(const std::string& device) {
  if (IsGpu(device)) return {DType::kBF16};
  return {DType::kF32, DType::kBF16};
}

double Rounding(const Device& device) {
  return device.ActivationType() == DType::kF32 ? 0 : 0x1p-8;
}

std::vector<float> RandomFloats(int64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

uint16_t FloatToHalf(float value) {
  const double magnitude = std::fabs(value);
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (magnitude == 0) return sign;
  int exponent;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent - 1, -14);  // below: subnormal, with the same step
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  // A carry out of the mantissa moves on to the next exponent by itself.
  return static_cast<uint16_t>(sign + ((exponent + 14) << 10) + steps);
}

std::vector<uint8_t> RandomWeights(DType dtype, int64_t rows, int64_t cols, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bytes(RowBytes(dtype, cols) * rows);
  if (dtype == DType::kF8E4M3) {
    for (uint8_t& byte : bytes) {
      do byte = static_cast<uint8_t>(random());
      while (IsE4M3Nan(byte));
    }
    for (int64_t r = 0; r < rows; ++r) {
      const float scale = normal(random) / 64;
      std::memcpy(&bytes[r * RowBytes(dtype, cols)], &scale, sizeof(scale));
    }
    return bytes;
  }
  if (BlockElements(dtype) == 1) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float value = normal(random);
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      const uint16_t high = static_cast<uint16_t>(bits >> 16);
      if (dtype == DType::kF32) std::memcpy(&bytes[4 * i], &value, 4);
      if (dtype == DType::kF16) PutHalf(value, &bytes[2 * i]);
      if (dtype == DType::kBF16) std::memcpy(&bytes[2 * i], &high, 2);
    }
    return bytes;
  }
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  for (size_t block = 0; block < bytes.size(); block += BlockBytes(dtype)) {
    for (int offset : HalfOffsets(dtype)) PutHalf(normal(random) / 64, &bytes[block + offset]);
  }
  return bytes;
}

std::vector<double> MatMulTolerance(const MatrixView& w, const float* x, const float* bias,
                                    int64_t n) {
  std::vector<double> tolerance(n * w.rows);
  std::vector<float> row(w.cols);
  for (int64_t r = 0; r < w.rows; ++r) {
    reference::DequantizeRow(w.dtype,
                             static_cast<const uint8_t*>(w.data) + r * RowBytes(w.dtype, w.cols), 0,
                             w.cols, row.data());
    for (int64_t t = 0; t < n; ++t) {
      double magnitudes = bias ? std::fabs(bias[r]) : 0;
      for (int64_t c = 0; c < w.cols; ++c) {
        magnitudes += std::fabs(static_cast<double>(row[c]) * x[t * w.cols + c]);
      }
      // Vector sums take at most cols/4 additions each, and the tree and the bias a few more.
      tolerance[t * w.rows + r] = (w.cols / 4.0 + 8) * 0x1p-23 * magnitudes;
    }
  }
  return tolerance;
}

std::vector<double> InputRounding(const MatrixView& w, const float* x, int64_t n) {
  std::vector<double> error(n * w.rows);
  if (w.dtype == DType::kF32 || w.dtype == DType::kF16) return error;
  std::vector<float> row(w.cols);
  for (int64_t r = 0; r < w.rows; ++r) {
    reference::DequantizeRow(w.dtype,
                             static_cast<const uint8_t*>(w.data) + r * RowBytes(w.dtype, w.cols), 0,
                             w.cols, row.data());
    for (int64_t t = 0; t < n; ++t) {
      if (w.dtype == DType::kBF16) {
        for (int64_t c = 0; c < w.cols; ++c) {
          error[t * w.rows + r] += std::fabs(row[c] * x[t * w.cols + c]) * 0x1p-8;
        }
        continue;
      }
      for (int64_t block = 0; block < w.cols; block += 32) {
        double weights = 0, largest = 0, squares = 0;
        for (int64_t c = block; c < block + 32; ++c) {
          const double input = x[t * w.cols + c];
          weights += std::fabs(row[c]);
          largest = std::max(largest, std::fabs(input));
          squares += input * input;
        }
        // Where one value dwarfs the others a step is 128 times as fine; a little later than that
        // for sure.
        const bool fine = std::sqrt(squares / 32) < 0.98 * largest / 4;
        error[t * w.rows + r] += weights * largest / (2 * 127 * (fine ? 128 : 1));
      }
    }
  }
  return error;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                const std::vector<double>& tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i]);
    ASSERT_LE(error, tolerance[i])
        << what << ", element " << i << ": " << actual[i] << ", expected " << expected[i];
  }
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                double relative, const std::string& what) {
  double largest = 0;
  for (double value : expected) largest = std::max(largest, std::fabs(value));
  ExpectNear(actual, expected, std::vector<double>(expected.size(), relative * largest), what);
}

std::vector<double> Widened(std::vector<double> tolerance, const std::vector<double>& expected,
                            double relative) {
  for (size_t i = 0; i < tolerance.size(); ++i) tolerance[i] += relative * std::fabs(expected[i]);
  return tolerance;
}

void ExpectSameBits(const float* actual, const float* expected, int64_t count,
                    const std::string& what) {
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(float)), 0)
        << what << ", element " << i << ": " << actual[i] << ", expected " << expected[i];
  }
}

}  // namespace tessera::kernels
