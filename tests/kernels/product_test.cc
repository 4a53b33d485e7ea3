// Packed matrices and prepared inputs, on every instruction set's kernels, without a device.
#include <gtest/gtest.h>

#include <algorithm>
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
#if defined(TESSERA_TILE_EMULATION)
namespace cpu::amx_emulated {
extern const OpsTable kOps;
}
#endif
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

// Outputs, or partial sums where `partials` is not null.
void Multiply(const OpsTable& ops, Matrix& w, InputForm form, const float* x, const float* bias,
              int64_t n, float* out, double* partials, int segment) {
  AlignedVector<uint8_t> prepared(cpu::InputBytes(form, w.view.cols, n));
  // In two pieces: they must not know of each other.
  const int64_t blocks = cpu::BlocksOf(w.view.cols);
  ops.prepare_input(form, x, w.view.cols, n, {0, n, blocks / 3, blocks}, prepared.data());
  ops.prepare_input(form, x, w.view.cols, n, {0, n, 0, blocks / 3}, prepared.data());
  const cpu::ProductArgs args = {.w = reinterpret_cast<const uint8_t*>(w.packed.data()),
                                 .dtype = w.view.dtype,
                                 .rows = w.view.rows,
                                 .cols = w.view.cols,
                                 .form = form,
                                 .input = prepared.data(),
                                 .bias = bias,
                                 .n = n,
                                 .out = out,
                                 .partials = partials,
                                 .segment_blocks = segment / 32};
  const int64_t groups = (w.view.rows + 15) / 16;
  AlignedVector<uint8_t> scratch(ops.multiply_scratch(args));
  ops.multiply(args, groups / 3, groups, scratch.data());
  ops.multiply(args, 0, groups / 3, scratch.data());
}

std::vector<float> Product(const OpsTable& ops, Matrix& w, InputForm form, const float* x,
                           const float* bias, int64_t n) {
  std::vector<float> out(n * w.view.rows, -1e30f);
  Multiply(ops, w, form, x, bias, n, out.data(), nullptr, 0);
  return out;
}

std::vector<double> Partials(const OpsTable& ops, Matrix& w, InputForm form, const float* x,
                             int64_t n, int segment) {
  std::vector<double> out(n * w.view.rows, -1e30);
  Multiply(ops, w, form, x, nullptr, n, nullptr, out.data(), segment);
  return out;
}

float RoundedToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return FloatFromBits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

// One block of integers: bytes, and where one value dwarfs the rest, a second byte for each.
void RoundToInt8(float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  if (largest == 0) return;
  std::vector<float> high(count), scaled(count);
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    scaled[i] = values[i] * (127.0f / largest);
    high[i] = std::nearbyint(scaled[i]);
    squares += high[i] * high[i];
  }
  const bool peaked = std::sqrt(squares / 32) < 127 / 4.0;
  for (int64_t i = 0; i < count; ++i) {
    const float low = peaked ? std::nearbyint((scaled[i] - high[i]) * 128) : 0;
    values[i] = (high[i] + low / 128) * (largest / 127);
  }
}

// What a form leaves of the inputs, worked out once more.
std::vector<float> AsPrepared(InputForm form, const std::vector<float>& x, int64_t cols) {
  std::vector<float> result = x;
  for (size_t begin = 0; begin < x.size(); begin += cols) {
    for (int64_t block = 0; block < cols; block += 32) {
      float* values = &result[begin + block];
      const int64_t count = std::min<int64_t>(32, cols - block);
      if (form == InputForm::kInt8) RoundToInt8(values, count);
      if (form != InputForm::kBFloat16 && form != InputForm::kBFloat16Pair) continue;
      for (int64_t i = 0; i < count; ++i) {
        const float upper = RoundedToBFloat16(values[i]);
        const bool pair = form == InputForm::kBFloat16Pair;
        values[i] = upper + (pair ? RoundedToBFloat16(values[i] - upper) : 0.0f);
      }
    }
  }
  return result;
}

// With a value that dwarfs the rest in about every third block of 32.
std::vector<float> PeakedFloats(int64_t count, std::mt19937& random) {
  auto x = RandomFloats(count, random);
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t at = i + random() % 32;
    if (random() % 3 == 0 && at < count) x[at] = x[at] < 0 ? -40.0f : 30.0f;
  }
  return x;
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
        const auto x = PeakedFloats(n * cols, random_);
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
      const auto x = PeakedFloats(max_n * cols, random_);
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

// Segments add up to the product, and to the same bits for one token and for many.
TEST_P(ProductTest, PartialSumsAreThoseOfEachTokenAlone) {
  const int64_t rows = 50, cols = 576, max_n = 35;
  Matrix w(dtype(), rows, cols, random_);
  const auto x = PeakedFloats(max_n * cols, random_);
  for (InputForm form : Forms()) {
    const auto prepared = AsPrepared(form, x, cols);
    for (int segment : {32, 64, 192, 576}) {
      std::vector<double> alone;
      for (int64_t t = 0; t < max_n; ++t) {
        const auto one = Partials(ops(), w, form, &x[t * cols], 1, segment);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      for (int64_t n : {2, 7, 16, 35}) {
        const std::string what = absl::StrCat("segment ", segment, ", n ", n);
        const auto sums = Partials(ops(), w, form, x.data(), n, segment);
        for (int64_t i = 0; i < n * rows; ++i) ASSERT_EQ(sums[i], alone[i]) << what;
        ExpectNear(std::vector<float>(sums.begin(), sums.end()),
                   reference::MatMul(w.view, prepared.data(), nullptr, n),
                   MatMulTolerance(w.view, prepared.data(), nullptr, n), what);
      }
    }
  }
}

// The error of rounding the inputs. A value that is large beside the others of its block costs them
// nothing.
TEST_P(ProductTest, InputsAreRoundedToTheirForm) {
  const int64_t rows = 64, cols = 1024, n = 8;
  Matrix w(dtype(), rows, cols, random_);
  const auto even = RandomFloats(n * cols, random_);
  auto peaked = even;
  for (size_t i = 5; i < peaked.size(); i += 32) peaked[i] = 100;
  const auto of_even = reference::MatMul(w.view, even.data(), nullptr, n);
  const auto of_peaked = reference::MatMul(w.view, peaked.data(), nullptr, n);
  double power = 0;
  for (double value : of_even) power += value * value;
  const auto error = [&](const std::vector<double>& exact, const std::vector<float>& actual) {
    double sum = 0;
    for (size_t i = 0; i < exact.size(); ++i) sum += std::pow(actual[i] - exact[i], 2);
    return std::sqrt(sum / power);
  };
  for (InputForm form : Forms()) {
    const double bound = form == InputForm::kInt8           ? 6e-3
                         : form == InputForm::kBFloat16     ? 2e-3
                         : form == InputForm::kBFloat16Pair ? 8e-6
                                                            : 1e-6;
    EXPECT_LE(error(of_even, Product(ops(), w, form, even.data(), nullptr, n)), bound);
    const double peaked_bound = form == InputForm::kFloat32 ? 1e-4 : bound;
    if (form != InputForm::kInt8 && form != InputForm::kFloat32) continue;
    EXPECT_LE(error(of_peaked, Product(ops(), w, form, peaked.data(), nullptr, n)), peaked_bound);
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

// The machine's, and the tile unit's in emulation (tile_emulation.h).
std::vector<const OpsTable*> Tables() {
  std::vector<const OpsTable*> tables = cpu::AvailableTables();
#if defined(TESSERA_TILE_EMULATION)
  const bool can_emulate = std::any_of(tables.begin(), tables.end(), [](const OpsTable* table) {
    return std::string(table->name) == "avx512bf16";
  });
  if (can_emulate) tables.push_back(&cpu::amx_emulated::kOps);
#endif
  return tables;
}

INSTANTIATE_TEST_SUITE_P(, ProductTest,
                         testing::Combine(testing::ValuesIn(Tables()),
                                          testing::ValuesIn(TestDTypes())),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param)->name, "_",
                                               DTypeName(std::get<1>(test.param)));
                         });

TEST(PackedWeightsTest, RowsComeBackBitForBit) {
  std::mt19937 random(3);
  for (DType dtype : TestDTypes()) {
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
  for (DType dtype : TestDTypes()) {
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
