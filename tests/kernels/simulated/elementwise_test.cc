// The elementwise kernels and RMSNorm over the executor: awkward sizes, unaligned arrays, in place.
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/reference.h"
#include "tests/kernels/kernel_testing.h"
#include "kernels/simulated/executor.h"
#include "tests/kernels/simulated/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

class SimtElementwise : public ::testing::Test {
 protected:
  void SetUp() override { simt::SetChecks({.global_races = true}); }
  void TearDown() override { simt::SetChecks({}); }

  std::mt19937 random_{4711};
};

TEST_F(SimtElementwise, Add) {
  for (int64_t count : {1, 7, 8, 100, 2048, 2051}) {
    for (int64_t off : {0, 1}) {
      const auto a = RoundedToBf16(RandomFloats(count, random_));
      const auto b = RoundedToBf16(RandomFloats(count, random_));
      auto x = ToBf16(a, off);
      const auto y = ToBf16(b);
      RunLaunch(LaunchAdd(y.data(), 1.0f, count, x.data(), nullptr));
      std::vector<float> expected(count);
      for (int64_t i = 0; i < count; ++i) expected[i] = a[i] + b[i];
      ExpectSameBits(ToFloats(x).data(), RoundedToBf16(expected).data(), count,
                     absl::StrCat("count ", count, ", off ", off));
    }
  }
}

TEST_F(SimtElementwise, SiluMulMayWriteOverItsGate) {
  for (int64_t count : {1, 9, 576, 4099}) {
    const auto gate = RoundedToBf16(RandomFloats(count, random_));
    const auto up = RoundedToBf16(RandomFloats(count, random_));
    const auto expected = reference::SiluMul(gate.data(), up.data(), count);
    auto x = ToBf16(gate);
    const auto y = ToBf16(up);
    DeviceArray<BFloat16> out(count);
    RunLaunch(LaunchSiluMul(x.data(), y.data(), count, out.data(), nullptr));
    ExpectNear(ToFloats(out), expected, kBf16Rounding, absl::StrCat("count ", count));
    RunLaunch(LaunchSiluMul(x.data(), y.data(), count, x.data(), nullptr));
    ExpectSameBits(ToFloats(x).data(), ToFloats(out).data(), count, "in place");
  }
}

TEST_F(SimtElementwise, RmsNorm) {
  // 8192 columns fill the registers; 8200 do not fit.
  for (int64_t cols : {1, 3, 8, 24, 100, 576, 4096, 8192, 8200, 8203}) {
    const int64_t rows = cols > 1000 ? 2 : 5;
    const auto x = RoundedToBf16(RandomFloats(rows * cols, random_));
    const auto weight = RandomFloats(cols, random_);
    const auto expected = reference::RmsNorm(x.data(), weight.data(), 1e-5f, rows, cols);
    auto device_x = ToBf16(x);
    const DeviceArray<float> device_weight(weight);
    DeviceArray<BFloat16> out(rows * cols);
    RunLaunch(LaunchRmsNorm(device_x.data(), device_weight.data(), 1e-5f, rows, cols, out.data(),
                            nullptr));
    ExpectNear(ToFloats(out), expected, kBf16Rounding, absl::StrCat("cols ", cols));
    RunLaunch(LaunchRmsNorm(device_x.data(), device_weight.data(), 1e-5f, rows, cols,
                            device_x.data(), nullptr));
    ExpectSameBits(ToFloats(device_x).data(), ToFloats(out).data(), rows * cols, "in place");
  }
}

TEST_F(SimtElementwise, AddRmsNormIsAddThenRmsNorm) {
  for (int64_t cols : {1, 12, 64, 577, 4096, 8208}) {
    const int64_t rows = 3;
    const auto x = RoundedToBf16(RandomFloats(rows * cols, random_));
    const auto y = RoundedToBf16(RandomFloats(rows * cols, random_));
    const float scale = cols % 2 == 0 ? 1.0f : 0.22f;
    const DeviceArray<float> weight(RandomFloats(cols, random_));
    auto fused_x = ToBf16(x);
    auto apart_x = ToBf16(x);
    const auto device_y = ToBf16(y);
    DeviceArray<BFloat16> fused(rows * cols), apart(rows * cols);
    RunLaunch(LaunchAddRmsNorm(device_y.data(), scale, weight.data(), 1e-6f, rows, cols,
                               fused_x.data(), fused.data(), nullptr));
    RunLaunch(LaunchAdd(device_y.data(), scale, rows * cols, apart_x.data(), nullptr));
    RunLaunch(LaunchRmsNorm(apart_x.data(), weight.data(), 1e-6f, rows, cols, apart.data(),
                            nullptr));
    ExpectSameBits(ToFloats(fused_x).data(), ToFloats(apart_x).data(), rows * cols, "sum");
    ExpectSameBits(ToFloats(fused).data(), ToFloats(apart).data(), rows * cols, "norm");
  }
}

TEST_F(SimtElementwise, AddNormed) {
  for (int64_t cols : {1, 12, 64, 577, 4096, 8208}) {
    const int64_t rows = 3;
    const auto x = RoundedToBf16(RandomFloats(rows * cols, random_));
    const auto y = RoundedToBf16(RandomFloats(rows * cols, random_));
    const auto weight = RandomFloats(cols, random_);
    const auto expected =
        reference::AddNormed(y.data(), 0.22, weight.data(), 1e-6, rows, cols, x.data());
    const auto device_y = ToBf16(y);
    const DeviceArray<float> device_weight(weight);
    auto sum = ToBf16(x);
    RunLaunch(LaunchAddNormed(device_y.data(), 0.22f, device_weight.data(), 1e-6f, rows, cols,
                              sum.data(), nullptr));
    ExpectNear(ToFloats(sum), expected, kBf16Rounding, absl::StrCat("cols ", cols));
  }
}

// Columns in two parts, as two ranks would have them: their sums added, then all of them divided.
TEST_F(SimtElementwise, RmsNormInTwoHalves) {
  for (int64_t cols : {2, 24, 100, 577, 4099}) {
    const int64_t rows = 3, cut = cols / 3;
    const auto x = RoundedToBf16(RandomFloats(rows * cols, random_));
    const auto weight = RandomFloats(cols, random_);
    const auto expected = reference::RmsNorm(x.data(), weight.data(), 1e-5, rows, cols);
    auto device_x = ToBf16(x);
    const DeviceArray<float> device_weight(weight);
    DeviceArray<float> sums(rows), others(rows);
    RunLaunch(LaunchSumSquares(device_x.data(), rows, cols, 0, cut, sums.data(), nullptr));
    RunLaunch(LaunchSumSquares(device_x.data(), rows, cols, cut, cols, others.data(), nullptr));
    for (int64_t r = 0; r < rows; ++r) sums[r] += others[r];
    RunLaunch(LaunchNormalizeBySums(sums.data(), cols, device_weight.data(), 1e-5f, rows, cols,
                                    device_x.data(), nullptr));
    ExpectNear(ToFloats(device_x), expected, kBf16Rounding, absl::StrCat("cols ", cols));
  }
}

TEST_F(SimtElementwise, GatherRows) {
  for (int64_t cols : {1, 31, 64, 2049}) {
    const auto x = RoundedToBf16(RandomFloats(5 * cols, random_));
    const auto device_x = ToBf16(x);
    const DeviceArray<int64_t> rows(std::vector<int64_t>{4, 0, 4});
    DeviceArray<BFloat16> out(3 * cols);
    RunLaunch(LaunchGatherRows(device_x.data(), 5, rows.data(), 3, cols, out.data(), nullptr));
    const auto floats = ToFloats(out);
    ExpectSameBits(&floats[0], &x[4 * cols], cols, "first");
    ExpectSameBits(&floats[cols], &x[0], cols, "second");
    ExpectSameBits(&floats[2 * cols], &x[4 * cols], cols, "third");
  }
}

TEST_F(SimtElementwise, CopyKvBlock) {
  for (int dim : {3, 64}) {
    KvCache cache{.num_blocks = 3, .num_kv_heads = 3, .block_tokens = 4, .head_dim = dim};
    const int64_t block = int64_t{12} * dim;
    const auto values = RoundedToBf16(RandomFloats(6 * block, random_));
    auto keys_and_values = ToBf16(values);
    cache.keys = keys_and_values.data();
    cache.values = keys_and_values.data() + 3 * block;
    RunLaunch(LaunchCopyKvBlock(cache, 2, 0, nullptr));
    const auto after = ToFloats(keys_and_values);
    for (int half : {0, 3}) {
      ExpectSameBits(&after[half * block], &values[(half + 2) * block], block, "copied");
      ExpectSameBits(&after[(half + 1) * block], &values[(half + 1) * block], 2 * block, "others");
    }
  }
}

TEST_F(SimtElementwise, FloatsThereAndBack) {
  const auto floats = RandomFloats(300, random_);
  const DeviceArray<float> from(floats);
  DeviceArray<BFloat16> bf16(300);
  DeviceArray<float> back(300);
  RunLaunch(LaunchFromFloat(from.data(), 300, bf16.data(), nullptr));
  RunLaunch(LaunchToFloat(bf16.data(), 300, back.data(), nullptr));
  ExpectSameBits(back.data(), RoundedToBf16(floats).data(), 300, "rounded");
}

}  // namespace
}  // namespace tessera::kernels::cuda
