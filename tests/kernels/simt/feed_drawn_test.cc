// Tokens that the step before drew, put among a step's ids, over the executor.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/simt/executor.h"
#include "tests/kernels/simt/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

TEST(SimtFeedDrawn, PutsEveryDrawInItsPlacesAndTouchesNothingElse) {
  simt::SetChecks({.global_races = true});
  std::mt19937 random(7);
  for (int64_t n : {1, 2, 255, 256, 257, 1000}) {
    const int64_t num_drawn = n / 2 + 1;
    std::vector<RowResult> drawn(num_drawn);
    for (RowResult& result : drawn) result.id = static_cast<int32_t>(random() % 100000);
    drawn.back().id = -1;  // a row that was not finite
    std::vector<int32_t> ids(n), expected(n);
    for (int64_t i = 0; i < n; ++i) {
      // Some known, some drawn, one draw more than once, the last one surely.
      const int64_t draw = i + 1 == n ? num_drawn - 1 : static_cast<int64_t>(random() % num_drawn);
      const bool fed = i + 1 == n || random() % 3 != 0;
      ids[i] = static_cast<int32_t>(fed ? -1 - draw : i);
      expected[i] = fed ? drawn[draw].id : ids[i];
    }
    const DeviceArray<RowResult> device_drawn(drawn);
    DeviceArray<int32_t> device_ids(ids);
    RunLaunch(LaunchFeedDrawn(device_drawn.data(), num_drawn, n, device_ids.data(), nullptr));
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(device_ids[i], expected[i]) << absl::StrCat("token ", i, " of ", n);
    }
  }
  simt::SetChecks({});
}

}  // namespace
}  // namespace tessera::kernels::cuda
