// How products are dealt out to threads does not show in their bits: few tokens by rows, many by
// tokens, on every instruction set.
#include "kernels/cpu/product_work.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/packed_weights.h"
#include "kernels/cpu/workers.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels::cpu {
namespace {

constexpr int64_t kCols = 160;
constexpr int kSegment = 32;

struct Packed {
  Packed(DType dtype, int64_t rows, std::mt19937& random) {
    const auto weights = RandomWeights(dtype, rows, kCols, random);
    view = {room.Get<std::byte>(PackedBytes(dtype, rows, kCols)), dtype, rows, kCols};
    PackRows(dtype, kCols, 0, rows, weights.data(), view.data);
  }
  Scratch room;
  WeightMatrix view;
};

// Two products of one input, of different types and so of different forms, and partial sums.
struct Results {
  std::vector<float> first, second;
  std::vector<double> partials;
};

class ProductWorkTest : public testing::TestWithParam<const OpsTable*> {
 protected:
  Results Multiply(int threads, const float* x, int64_t n) {
    Workers workers(threads);
    ProductWork work(GetParam(), &workers);
    Results results = {std::vector<float>(n * quantized_.view.rows, -1e30f),
                       std::vector<float>(n * floating_.view.rows, -1e30f),
                       std::vector<double>(n * quantized_.view.rows, -1e30)};
    work.Begin(x, n);
    work.Add({.w = quantized_.view, .bias = bias_.data(), .out = results.first.data()});
    work.Add({.w = floating_.view, .out = results.second.data()});
    work.Run();
    work.Begin(x, n);
    work.Add({.w = quantized_.view, .partials = results.partials.data(), .segment = kSegment});
    work.Run();
    return results;
  }

  std::mt19937 random_{20261126};
  Packed quantized_{DType::kQ4_1, 50, random_};
  Packed floating_{DType::kBF16, 35, random_};
  std::vector<float> bias_ = RandomFloats(50, random_);
};

TEST_P(ProductWorkTest, EveryTokenAsIfAlone) {
  const int64_t most = 600;  // enough for three threads to take tokens rather than rows
  const auto x = RandomFloats(most * kCols, random_);
  Results alone;
  for (int64_t t = 0; t < most; ++t) {
    const Results one = Multiply(1, &x[t * kCols], 1);
    alone.first.insert(alone.first.end(), one.first.begin(), one.first.end());
    alone.second.insert(alone.second.end(), one.second.begin(), one.second.end());
    alone.partials.insert(alone.partials.end(), one.partials.begin(), one.partials.end());
  }
  for (int threads : {1, 2, 3}) {
    for (int64_t n : {16, 100, 385, 600}) {
      const std::string what = absl::StrCat(threads, " threads, n ", n);
      const Results all = Multiply(threads, x.data(), n);
      ExpectSameBits(all.first.data(), alone.first.data(), n * quantized_.view.rows, what);
      ExpectSameBits(all.second.data(), alone.second.data(), n * floating_.view.rows, what);
      for (size_t i = 0; i < all.partials.size(); ++i) {
        ASSERT_EQ(all.partials[i], alone.partials[i]) << what;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, ProductWorkTest, testing::ValuesIn(AvailableTables()),
                         [](const auto& table) { return std::string(table.param->name); });

}  // namespace
}  // namespace tessera::kernels::cpu
