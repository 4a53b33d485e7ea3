// Packed weights hold what tensor.h's rows hold: read back by the embedding and by the
// dequantization, bit for bit.
#include "kernels/cuda/packed_weights.h"

#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/half.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/simulated/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

std::vector<float> Reference(const MatrixView& w) {
  std::vector<float> out(w.rows * w.cols);
  for (int64_t r = 0; r < w.rows; ++r) {
    reference::DequantizeRow(
        w.dtype, static_cast<const uint8_t*>(w.data) + r * RowBytes(w.dtype, w.cols), 0, w.cols,
        &out[r * w.cols]);
  }
  return RoundedToBf16(out);
}

TEST(PackedWeights, EmbedAndDequantizeReadEveryWeight) {
  std::mt19937 random(1);
  for (DType dtype : AllDTypes()) {
    for (int64_t rows : {1, 16, 37}) {
      for (int64_t cols : {1, 5, 32, 33, 64, 96, 160}) {
        if (cols % BlockElements(dtype) != 0) continue;
        const std::string what = absl::StrCat(std::string(DTypeName(dtype)), " ", rows, "x", cols);
        const auto bytes = RandomWeights(dtype, rows, cols, random);
        const MatrixView view{bytes.data(), dtype, rows, cols};
        const PackedMatrix packed = Pack(view);
        const std::vector<float> expected = Reference(view);

        std::vector<int32_t> all(rows);
        std::iota(all.begin(), all.end(), 1000);
        const DeviceArray<int32_t> ids(all);
        StepArrays step;
        step.n_capacity = rows;
        step.ids = ids.data();
        DeviceArray<BFloat16> out(rows * cols);
        RunLaunch(LaunchEmbed(packed.w, 1000, 1.0f, step, rows, out.data(), nullptr));
        ExpectSameBits(ToFloats(out).data(), expected.data(), rows * cols, what + " embed");

        const int64_t pitch = BFloat16Pitch(cols);
        DeviceArray<BFloat16> wide(rows * pitch);
        RunLaunch(LaunchDequantize(packed.w, wide.data(), nullptr));
        const std::vector<float> floats = ToFloats(wide);
        for (int64_t r = 0; r < rows; ++r) {
          ExpectSameBits(&floats[r * pitch], &expected[r * cols], cols, what + " dequantize");
          for (int64_t c = cols; c < pitch; ++c) ASSERT_EQ(floats[r * pitch + c], 0.0f) << what;
        }
      }
    }
  }
}

TEST(PackedWeights, EmbedGivesZerosForRowsOfOtherRanks) {
  std::mt19937 random(2);
  const auto bytes = RandomWeights(DType::kQ4_1, 10, 32, random);
  const MatrixView view{bytes.data(), DType::kQ4_1, 10, 32};
  const PackedMatrix packed = Pack(view);
  const std::vector<float> table = Reference(view);
  const DeviceArray<int32_t> ids(std::vector<int32_t>{99, 100, 109, 110, 0, 2147483647});
  const int local[] = {-1, 0, 9, -1, -1, -1};
  StepArrays step;
  step.n_capacity = 6;
  step.ids = ids.data();
  DeviceArray<BFloat16> out(6 * 32);
  RunLaunch(LaunchEmbed(packed.w, 100, 1.0f, step, 6, out.data(), nullptr));
  const std::vector<float> floats = ToFloats(out);
  const std::vector<float> zeros(32, 0.0f);
  for (int t = 0; t < 6; ++t) {
    ExpectSameBits(&floats[t * 32], local[t] < 0 ? zeros.data() : &table[local[t] * 32], 32,
                   absl::StrCat("token ", t));
  }
}

}  // namespace
}  // namespace tessera::kernels::cuda
