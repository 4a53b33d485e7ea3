#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "kernels/e4m3.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

// Every one of n rows to E4M3 by the scale that makes its largest 448.
std::vector<float> RoundedToE4M3(std::vector<float> x, int64_t n) {
  const auto cols = static_cast<int64_t>(x.size()) / n;
  for (int64_t t = 0; t < n; ++t) {
    float largest = 0;
    for (int64_t c = 0; c < cols; ++c) largest = std::max(largest, std::fabs(x[t * cols + c]));
    const float scale = largest / kE4M3Max;
    for (int64_t c = 0; c < cols; ++c) {
      float& value = x[t * cols + c];
      value = scale * E4M3ToFloat(FloatToE4M3(value * (1.0f / scale)));
    }
  }
  return x;
}

class MatMulTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  std::string device() const { return std::get<0>(GetParam()); }
  bool gpu() const { return IsGpu(device()); }
  DType dtype() const { return std::get<1>(GetParam()); }

  std::vector<int64_t> Cols() const {
    if (BlockElements(dtype()) == 1) {
      if (gpu()) return {1, 33, 100};
      return {1, 5, 33, 64, 100, 576};
    }
    if (gpu()) return {32, 96};
    return {32, 64, 96, 576, 1536};
  }

  // Fails unless `actual` is x · wᵀ + bias, as near as the device's types allow. A GPU multiplies
  // weights rounded to bfloat16 where they are floats, and rounds what comes out.
  void ExpectProduct(const HostOps& ops, const std::vector<float>& actual, const MatrixView& w,
                     const std::vector<float>& x, const float* bias, int64_t n,
                     const std::string& what) const {
    const std::vector<float> taken = ops.Rounded(x);
    const std::vector<double> expected = reference::MatMul(w, taken.data(), bias, n);
    std::vector<double> tolerance = MatMulTolerance(w, taken.data(), bias, n);
    if (!gpu()) {
      const std::vector<double> rounding = InputRounding(w, taken.data(), n);
      for (size_t i = 0; i < tolerance.size(); ++i) tolerance[i] += rounding[i];
    } else {
      const double roundings = (w.cols / 4.0 + 8) * 0x1p-23;  // those of the tolerance
      for (double& value : tolerance) value *= 1 + 0x1p-8 / roundings;
      tolerance = Widened(std::move(tolerance), expected, 0x1p-8);
    }
    ExpectNear(actual, expected, tolerance, what);
  }

  std::mt19937 random_{20240817};
};

TEST_P(MatMulTest, EqualsTheReferenceWithinFloatAccumulation) {
  HostOps ops(DeviceOf(device()));
  for (int64_t rows : {1, 3, 5, 17, 50}) {
    for (int64_t cols : Cols()) {
      const auto weights = RandomWeights(dtype(), rows, cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      const auto bias = RandomFloats(rows, random_);
      for (int64_t n : {1, 2, 7, 16}) {
        const auto x = RandomFloats(n * cols, random_);
        const float* bias_or_null = n == 2 ? nullptr : bias.data();
        ExpectProduct(ops, ops.MatMul(w, x, n == 2 ? std::vector<float>() : bias, n), w, x,
                      bias_or_null, n, absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n));
      }
    }
  }
}

TEST_P(MatMulTest, LargeOddMatrixEqualsTheReference) {
  HostOps ops(DeviceOf(device(), /*threads=*/2));
  const int64_t rows = gpu() ? 131 : 577;
  const int64_t cols = gpu() ? 288 : 576;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  const MatrixView w{weights.data(), dtype(), rows, cols};
  for (int64_t n : {1, 7}) {
    const auto x = RandomFloats(n * cols, random_);
    ExpectProduct(ops, ops.MatMul(w, x, {}, n), w, x, nullptr, n, absl::StrCat("n ", n));
  }
}

// A token's outputs have the same bits alone and in any company.
TEST_P(MatMulTest, BatchDoesNotMatter) {
  HostOps ops(DeviceOf(device()));
  const int64_t max_n = 33;
  for (int64_t rows : {1, 3, 50}) {
    for (int64_t cols : Cols()) {
      if (gpu() && rows == 3) continue;
      const auto weights = RandomWeights(dtype(), rows, cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      const auto bias = RandomFloats(rows, random_);
      const auto x = RandomFloats(max_n * cols, random_);
      std::vector<float> alone;
      for (int64_t t = 0; t < max_n; ++t) {
        const std::vector<float> token(&x[t * cols], &x[t * cols] + cols);
        const auto one = ops.MatMul(w, token, bias, 1);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      for (int64_t n : {2, 3, 4, 5, 6, 7, 16, 33}) {
        const std::vector<float> some(x.begin(), x.begin() + n * cols);
        ExpectSameBits(ops.MatMul(w, some, bias, n).data(), alone.data(), n * rows,
                       absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n));
      }
    }
  }
}

// The same of matrices that a GPU's library takes: alone, with others, in the first rows that it
// multiplies at once or in later ones, in whichever place.
TEST_P(MatMulTest, BatchDoesNotMatterToTheLibrary) {
  if (!gpu()) GTEST_SKIP() << "no library";
  HostOps ops(DeviceOf(device()));
  const int64_t rows = 48, cols = 96, max_n = 300;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  const MatrixView w{weights.data(), dtype(), rows, cols};
  const auto x = RandomFloats(max_n * cols, random_);
  const auto all = ops.MatMul(w, x, {}, max_n);
  for (int64_t first : {0, 1, 77, 128, 131, 299}) {
    for (int64_t n : {1, 5, 77, 128, 169}) {
      if (first + n > max_n) continue;
      const std::vector<float> some(x.begin() + first * cols, x.begin() + (first + n) * cols);
      ExpectSameBits(ops.MatMul(w, some, {}, n).data(), &all[first * rows], n * rows,
                     absl::StrCat("from row ", first, ", n ", n));
    }
  }
}

// Row r has the same bits whatever rows surround it: a vocabulary may be cut anywhere.
TEST_P(MatMulTest, CutsBetweenRowsDoNotMatter) {
  HostOps ops(DeviceOf(device()));
  const int64_t rows = 23;
  const int64_t cols = 96;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  for (int64_t n : {1, 7}) {
    const auto x = RandomFloats(n * cols, random_);
    const auto whole = ops.MatMul({weights.data(), dtype(), rows, cols}, x, {}, n);
    for (int64_t first = 1; first < rows; first += gpu() ? 7 : 1) {
      const MatrixView part{weights.data() + first * RowBytes(dtype(), cols), dtype(), rows - first,
                            cols};
      const auto out = ops.MatMul(part, x, {}, n);
      for (int64_t t = 0; t < n; ++t) {
        ExpectSameBits(&out[t * part.rows], &whole[t * rows + first], part.rows,
                       absl::StrCat("first row ", first, ", n ", n));
      }
    }
  }
}

TEST_P(MatMulTest, ThreadsDoNotMatter) {
  if (gpu()) GTEST_SKIP() << "no threads of ours";
  HostOps one(DeviceOf(device(), 1));
  const int64_t rows = 577;
  const int64_t cols = 192;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  const MatrixView w{weights.data(), dtype(), rows, cols};
  for (int threads : {2, 3, 5}) {
    HostOps many(DeviceOf(device(), threads));
    for (int64_t n : {1, 2, 16, 33}) {
      const auto x = RandomFloats(n * cols, random_);
      ExpectSameBits(many.MatMul(w, x, {}, n).data(), one.MatMul(w, x, {}, n).data(), n * rows,
                     absl::StrCat(threads, " threads, n ", n));
    }
  }
}

// Products that share their input are those that each would be alone, and the head's logits too.
TEST_P(MatMulTest, TogetherIsAsAlone) {
  for (int threads : {1, 3}) {
    HostOps ops(DeviceOf(device(), threads));
    const int64_t cols = 96;
    const std::vector<int64_t> rows = {37, 1, 130};
    std::vector<std::vector<uint8_t>> weights;
    std::vector<MatrixView> views;
    for (int64_t r : rows) {
      weights.push_back(RandomWeights(dtype(), r, cols, random_));
      views.push_back({weights.back().data(), dtype(), r, cols});
    }
    for (int64_t n : {1, 5, 40}) {
      const auto x = RandomFloats(n * cols, random_);
      const auto together = ops.MatMuls(views, x, n);
      for (size_t i = 0; i < rows.size(); ++i) {
        const auto alone = ops.MatMul(views[i], x, {}, n);
        const std::string what = absl::StrCat(threads, " threads, n ", n, ", product ", i);
        ExpectSameBits(together[i].data(), alone.data(), n * rows[i], what);
        ExpectSameBits(ops.Rounded(ops.Logits(views[i], x, n)).data(), alone.data(), n * rows[i],
                       what);
      }
    }
  }
}

// Partial sums of a matrix cut at segments, added up and rounded, are those of the
// whole matrix, bit for bit.
TEST_P(MatMulTest, CutsBetweenSegmentsDoNotShow) {
  HostOps ops(DeviceOf(device(), /*threads=*/2));
  if (!ops.exact()) GTEST_SKIP() << "partial sums of this device are rounded";
  const int64_t rows = 37;
  const int64_t cols = 576;
  const auto weights = RandomWeights(dtype(), rows, cols, random_);
  for (int segment : {64, 32, 1}) {
    if (segment < BlockElements(dtype())) continue;
    for (int64_t n : {1, 5, 33}) {
      const auto x = RandomFloats(n * cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      const auto whole = ops.MatMulPartial(w, x, n, segment);
      ExpectProduct(ops, {whole.begin(), whole.end()}, w, x, nullptr, n, absl::StrCat("n ", n));
      for (int64_t cut : {segment == 1 ? 160 : segment, 192, 448}) {
        // Columns [begin, end) of weights and inputs.
        const auto part = [&](int64_t begin, int64_t end) {
          std::vector<uint8_t> some;
          std::vector<float> inputs;
          for (int64_t r = 0; r < rows; ++r) {
            const auto first = weights.begin() + r * RowBytes(dtype(), cols);
            some.insert(some.end(), first + RowBytes(dtype(), begin),
                        first + RowBytes(dtype(), end));
          }
          for (int64_t t = 0; t < n; ++t) {
            inputs.insert(inputs.end(), &x[t * cols] + begin, &x[t * cols] + end);
          }
          return ops.MatMulPartial({some.data(), dtype(), rows, end - begin}, inputs, n, segment);
        };
        const auto left = part(0, cut);
        const auto right = part(cut, cols);
        std::vector<float> sum, rounded(whole.begin(), whole.end());
        for (size_t i = 0; i < left.size(); ++i) {
          sum.push_back(static_cast<float>(left[i] + right[i]));
        }
        ExpectSameBits(sum.data(), rounded.data(), n * rows,
                       absl::StrCat("segment ", segment, ", cut at ", cut, ", n ", n));
      }
    }
  }
}

// So many tokens that a GPU asks its library. Of 8-bit floats it may multiply inputs that were
// rounded to such as well, each token by its own scale, or the inputs themselves: one of the two.
TEST_P(MatMulTest, ManyTokensThroughTheLibrary) {
  if (!gpu()) GTEST_SKIP() << "no library";
  auto opened = MakeDevice("cuda", {.deterministic = false});
  ASSERT_TRUE(opened.ok()) << opened.status();
  HostOps ops(*std::move(opened));
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{48, 96}, {40, 160}, {16, 544}}) {
    for (int64_t n : {64, 77}) {
      const std::string what = absl::StrCat("rows ", rows, ", cols ", cols, ", n ", n);
      const auto weights = RandomWeights(dtype(), rows, cols, random_);
      const MatrixView w{weights.data(), dtype(), rows, cols};
      auto x = RandomFloats(n * cols, random_);
      for (int64_t t = 0; t < n; ++t) {
        for (int64_t c = 0; c < cols; ++c) x[t * cols + c] *= static_cast<float>(t + 1);
      }
      const auto taken = ops.Rounded(x);
      const auto out = ops.MatMul(w, x, {}, n);
      // The library multiplies weights rounded to bfloat16.
      const auto is_near = [&](const std::vector<float>& inputs) {
        const auto expected = reference::MatMul(w, inputs.data(), nullptr, n);
        auto tolerance = MatMulTolerance(w, inputs.data(), nullptr, n);
        for (size_t i = 0; i < out.size(); ++i) {
          const double magnitudes = tolerance[i] / ((cols / 4.0 + 8) * 0x1p-23);
          if (!(std::fabs(out[i] - expected[i]) <=
                0x1p-8 * (magnitudes + std::fabs(expected[i])))) {
            return false;
          }
        }
        return true;
      };
      EXPECT_TRUE(is_near(taken) || (dtype() == DType::kF8E4M3 && is_near(RoundedToE4M3(taken, n))))
          << what;
    }
  }
}

TEST_P(MatMulTest, NoTokensIsNoWork) {
  HostOps ops(DeviceOf(device(), 2));
  const auto weights = RandomWeights(dtype(), 4, 32, random_);
  EXPECT_TRUE(ops.MatMul({weights.data(), dtype(), 4, 32}, {}, {}, 0).empty());
}

INSTANTIATE_TEST_SUITE_P(, MatMulTest,
                         testing::Combine(testing::ValuesIn(TestDevices()),
                                          testing::ValuesIn(TestDTypes())),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               DTypeName(std::get<1>(test.param)));
                         });

}  // namespace
}  // namespace tessera::kernels
