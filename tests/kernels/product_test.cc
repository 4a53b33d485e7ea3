// Packed matrices and prepared inputs, on every instruction set's kernels, without a device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/packed_weights.h"
#include "kernels/half.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

using cpu::InputForm;
using cpu::OpsTable;

template <typename T>
class AlignedVector {
 public:
  explicit AlignedVector(size_t count) : storage_(count * sizeof(T) + 64) {}
  T* data() {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<uint8_t> storage_;
};

struct Matrix {
  Matrix(DType dtype, int64_t rows, int64_t cols, std::mt19937& random)
      : weights(RandomWeights(dtype, rows, cols, random)),
        view{weights.data(), dtype, rows, cols},
        packed(cpu::PackedBytes(dtype, rows, cols)) {
    cpu::PackRows(dtype, cols, 0, rows, weights.data(), packed.data());
  }

  std::vector<uint8_t> weights;
  MatrixView view;
  AlignedVector<std::byte> packed;
};

std::vector<float> Product(const OpsTable& ops, Matrix& w, InputForm form, const float* x,
                           const float* bias, int64_t n) {
  AlignedVector<uint8_t> prepared(cpu::InputBytes(form, w.view.cols, n));
  ops.prepare_input(form, x, w.view.cols, n, 0, n, prepared.data());
  std::vector<float> out(n * w.view.rows, -1e30f);
  const cpu::ProductArgs args = {.w = reinterpret_cast<const uint8_t*>(w.packed.data()),
                                 .dtype = w.view.dtype,
                                 .rows = w.view.rows,
                                 .cols = w.view.cols,
                                 .form = form,
                                 .input = prepared.data(),
                                 .bias = bias,
                                 .n = n,
                                 .out = out.data()};
  const int64_t groups = (w.view.rows + 15) / 16;
  // In two pieces: they must not know of each other.
  AlignedVector<uint8_t> scratch(ops.multiply_scratch(args));
  ops.multiply(args, groups / 3, groups, scratch.data());
  ops.multiply(args, 0, groups / 3, scratch.data());
  return out;
}

float RoundedToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return FloatFromBits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

// What a form leaves of the inputs, worked out once more: round to nearest of steps of the block's
// largest.
std::vector<float> AsPrepared(InputForm form, const std::vector<float>& x, int64_t cols) {
  std::vector<float> result = x;
  for (size_t begin = 0; begin < x.size(); begin += cols) {
    for (int64_t block = 0; block < cols; block += 32) {
      float* values = &result[begin + block];
      const int64_t count = std::min<int64_t>(32, cols - block);
      if (form == InputForm::kBFloat16Pair) {
        for (int64_t i = 0; i < count; ++i) {
          const float upper = RoundedToBFloat16(values[i]);
          values[i] = upper + RoundedToBFloat16(values[i] - upper);
        }
      }
      if (!cpu::IsIntegers(form)) continue;
      const float limit = cpu::LimitOf(form);
      float largest = 0;
      for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
      for (int64_t i = 0; i < count && largest > 0; ++i) {
        values[i] = std::nearbyint(values[i] * (limit / largest)) * (largest / limit);
      }
    }
  }
  return result;
}

class ProductTest : public testing::TestWithParam<std::tuple<const OpsTable*, DType>> {
 protected:
  const OpsTable& ops() const { return *std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::vector<InputForm> Forms() const {
    return {ops().input_form(dtype())};
  }
  std::vector<int64_t> Cols() const {
    if (BlockElements(dtype()) == 1) return {1, 5, 33, 64, 100, 576};
    return {32, 64, 96, 576, 1536};
  }

  std::mt19937 random_{20240817};
};

// Nothing but float32 accumulation stands between the product and that of the inputs as prepared.
TEST_P(ProductTest, IsExactButForTheInputsForm) {
  for (int64_t rows : {1, 3, 16, 17, 50, 130}) {
    for (int64_t cols : Cols()) {
      Matrix w(dtype(), rows, cols, random_);
      const auto bias = RandomFloats(rows, random_);
      for (int64_t n : {1, 2, 7, 16, 19}) {
        const auto x = RandomFloats(n * cols, random_);
        const float* bias_or_null = n == 2 ? nullptr : bias.data();
        for (InputForm form : Forms()) {
          const auto prepared = AsPrepared(form, x, cols);
          ExpectNear(Product(ops(), w, form, x.data(), bias_or_null, n),
                     reference::MatMul(w.view, prepared.data(), bias_or_null, n),
                     MatMulTolerance(w.view, prepared.data(), bias_or_null, n),
                     absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n, ", form ",
                                  static_cast<int>(form)));
        }
      }
    }
  }
}

TEST_P(ProductTest, CompanyDoesNotMatter) {
  const int64_t max_n = 35;
  for (int64_t rows : {1, 3, 50, 100}) {
    for (int64_t cols : Cols()) {
      Matrix w(dtype(), rows, cols, random_);
      const auto bias = RandomFloats(rows, random_);
      const auto x = RandomFloats(max_n * cols, random_);
      for (InputForm form : Forms()) {
        std::vector<float> alone;
        for (int64_t t = 0; t < max_n; ++t) {
          const auto one = Product(ops(), w, form, &x[t * cols], bias.data(), 1);
          alone.insert(alone.end(), one.begin(), one.end());
        }
        for (int64_t n : {2, 3, 5, 7, 15, 16, 33, 35}) {
          ExpectSameBits(Product(ops(), w, form, x.data(), bias.data(), n).data(), alone.data(),
                         n * rows, absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n));
        }
      }
    }
  }
}

// The error of rounding the inputs: about half a step's length per block.
TEST_P(ProductTest, InputsAreRoundedToTheirForm) {
  const int64_t rows = 64, cols = 1024, n = 8;
  Matrix w(dtype(), rows, cols, random_);
  const auto x = RandomFloats(n * cols, random_);
  const auto exact = reference::MatMul(w.view, x.data(), nullptr, n);
  double power = 0;
  for (double value : exact) power += value * value;
  for (InputForm form : Forms()) {
    const auto actual = Product(ops(), w, form, x.data(), nullptr, n);
    double error = 0;
    for (size_t i = 0; i < exact.size(); ++i) error += std::pow(actual[i] - exact[i], 2);
    const double bound = form == InputForm::kInt15          ? 8e-5
                         : form == InputForm::kInt12        ? 6.4e-4
                         : form == InputForm::kBFloat16Pair ? 8e-6
                                                            : 1e-6;
    EXPECT_LE(std::sqrt(error / power), bound) << static_cast<int>(form);
  }
}

TEST_P(ProductTest, WhatIsNotFiniteStaysSo) {
  const int64_t rows = 20, cols = 96;
  Matrix w(dtype(), rows, cols, random_);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(3 * cols, 0.5f);
    x[cols + 40] = bad;
    for (InputForm form : Forms()) {
      const auto out = Product(ops(), w, form, x.data(), nullptr, 3);
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t r = 0; r < rows; ++r) {
          EXPECT_EQ(std::isfinite(out[t * rows + r]), t != 1) << "token " << t << ", row " << r;
        }
      }
    }
  }
}

TEST_P(ProductTest, ZerosAndTinyInputs) {
  const int64_t rows = 20, cols = 64;
  Matrix w(dtype(), rows, cols, random_);
  for (float value : {0.0f, -0.0f, 1e-38f, 1e-44f}) {
    const std::vector<float> x(cols, value);
    for (InputForm form : Forms()) {
      for (float out : Product(ops(), w, form, x.data(), nullptr, 1)) EXPECT_LE(std::fabs(out), 1e-29f);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, ProductTest,
                         testing::Combine(testing::ValuesIn(cpu::AvailableTables()),
                                          testing::ValuesIn(AllDTypes())),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param)->name, "_",
                                               DTypeName(std::get<1>(test.param)));
                         });

TEST(PackedWeightsTest, RowsComeBackBitForBit) {
  std::mt19937 random(3);
  for (DType dtype : AllDTypes()) {
    for (int64_t rows : {1, 15, 16, 17, 50}) {
      for (int64_t cols : {32, 96, BlockElements(dtype) == 1 ? 77 : 160}) {
        Matrix w(dtype, rows, cols, random);
        std::vector<float> actual(cols), expected(cols);
        for (int64_t r = 0; r < rows; ++r) {
          cpu::UnpackRow(dtype, w.packed.data(), cols, r, actual.data());
          reference::DequantizeRow(dtype, w.weights.data() + r * RowBytes(dtype, cols), 0, cols,
                                   expected.data());
          ExpectSameBits(actual.data(), expected.data(), cols,
                         absl::StrCat(std::string(DTypeName(dtype)), ", row ", r));
        }
      }
    }
  }
}

TEST(PackedWeightsTest, PiecesOfWholeGroupsMakeTheSameBytes) {
  std::mt19937 random(4);
  for (DType dtype : AllDTypes()) {
    const int64_t rows = 50, cols = 64;
    Matrix whole(dtype, rows, cols, random);
    const size_t bytes = cpu::PackedBytes(dtype, rows, cols);
    std::vector<std::byte> pieces(bytes);
    for (int64_t row : {0, 16, 48}) {
      const int64_t count = std::min<int64_t>(row == 16 ? 32 : 16, rows - row);
      cpu::PackRows(dtype, cols, row, count, whole.weights.data() + row * RowBytes(dtype, cols),
                    pieces.data());
    }
    EXPECT_EQ(std::memcmp(pieces.data(), whole.packed.data(), bytes), 0) << DTypeName(dtype);
  }
}

}  // namespace
}  // namespace tessera::kernels
