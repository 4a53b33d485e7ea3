#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

class MatMulTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  std::string instruction_set() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }

  std::vector<int64_t> Cols() const {
    if (BlockElements(dtype()) == 1) return {1, 5, 33, 64, 100, 576};
    return {32, 64, 96, 576, 1536};
  }

  std::mt19937 random_{20240817};
};

std::vector<float> Product(Device& device, const MatrixView& w, const float* x, const float* bias,
                           int64_t n) {
  std::vector<float> out(n * w.rows, -1e30f);
  device.MatMul(w, x, bias, n, out.data());
  return out;
}

TEST_P(MatMulTest, EqualsTheReferenceWithinFloatAccumulation) {
  auto device = DeviceOf(instruction_set());
  for (int64_t rows : {1, 3, 5, 17, 50}) {
    for (int64_t cols : Cols()) {
      const auto weights = RandomWeights(dtype(), rows, cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      const auto bias = RandomFloats(rows, random_);
      for (int64_t n : {1, 2, 7, 16}) {
        const auto x = RandomFloats(n * cols, random_);
        const float* bias_or_null = n == 2 ? nullptr : bias.data();
        ExpectNear(Product(*device, w, x.data(), bias_or_null, n),
                   reference::MatMul(w, x.data(), bias_or_null, n),
                   MatMulTolerance(w, x.data(), bias_or_null, n),
                   absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n));
      }
    }
  }
}

TEST_P(MatMulTest, LargeOddMatrixEqualsTheReference) {
  auto device = DeviceOf(instruction_set(), /*threads=*/2);
  const int64_t rows = 577;
  const int64_t cols = 576;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  const MatrixView w{weights.data(), dtype(), rows, cols};
  for (int64_t n : {1, 7}) {
    const auto x = RandomFloats(n * cols, random_);
    ExpectNear(Product(*device, w, x.data(), nullptr, n),
               reference::MatMul(w, x.data(), nullptr, n), MatMulTolerance(w, x.data(), nullptr, n),
               absl::StrCat("n ", n));
  }
}

// A token's outputs have the same bits alone and in any company.
TEST_P(MatMulTest, BatchDoesNotMatter) {
  auto device = DeviceOf(instruction_set());
  const int64_t max_n = 33;
  for (int64_t rows : {1, 3, 50}) {
    for (int64_t cols : Cols()) {
      const auto weights = RandomWeights(dtype(), rows, cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      const auto bias = RandomFloats(rows, random_);
      const auto x = RandomFloats(max_n * cols, random_);
      std::vector<float> alone(max_n * rows);
      for (int64_t t = 0; t < max_n; ++t) {
        device->MatMul(w, &x[t * cols], bias.data(), 1, &alone[t * rows]);
      }
      for (int64_t n : {2, 3, 4, 5, 6, 7, 16, 33}) {
        ExpectSameBits(Product(*device, w, x.data(), bias.data(), n).data(), alone.data(), n * rows,
                       absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n));
      }
    }
  }
}

// Row r has the same bits whatever rows surround it: a vocabulary may be cut anywhere.
TEST_P(MatMulTest, CutsBetweenRowsDoNotMatter) {
  auto device = DeviceOf(instruction_set());
  const int64_t rows = 23;
  const int64_t cols = 96;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  for (int64_t n : {1, 7}) {
    const auto x = RandomFloats(n * cols, random_);
    const auto whole =
        Product(*device, {weights.data(), dtype(), rows, cols}, x.data(), nullptr, n);
    for (int64_t first = 1; first < rows; ++first) {
      const MatrixView part{weights.data() + first * RowBytes(dtype(), cols), dtype(), rows - first,
                            cols};
      const auto out = Product(*device, part, x.data(), nullptr, n);
      for (int64_t t = 0; t < n; ++t) {
        ExpectSameBits(&out[t * part.rows], &whole[t * rows + first], part.rows,
                       absl::StrCat("first row ", first, ", n ", n));
      }
    }
  }
}

TEST_P(MatMulTest, ThreadsDoNotMatter) {
  auto one = DeviceOf(instruction_set(), 1);
  const int64_t rows = 577;
  const int64_t cols = 192;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  const MatrixView w{weights.data(), dtype(), rows, cols};
  for (int threads : {2, 3, 5}) {
    auto many = DeviceOf(instruction_set(), threads);
    for (int64_t n : {1, 2, 16, 33}) {
      const auto x = RandomFloats(n * cols, random_);
      ExpectSameBits(Product(*many, w, x.data(), nullptr, n).data(),
                     Product(*one, w, x.data(), nullptr, n).data(), n * rows,
                     absl::StrCat(threads, " threads, n ", n));
    }
  }
}

TEST_P(MatMulTest, NoTokensIsNoWork) {
  auto device = DeviceOf(instruction_set(), 2);
  const auto weights = RandomWeights(dtype(), 4, 32, random_);
  float out = 42;
  device->MatMul({weights.data(), dtype(), 4, 32}, nullptr, nullptr, 0, &out);
  EXPECT_EQ(out, 42);
}

INSTANTIATE_TEST_SUITE_P(, MatMulTest,
                         testing::Combine(testing::ValuesIn(InstructionSets()),
                                          testing::ValuesIn(AllDTypes())),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               DTypeName(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace tessera::kernels
