// Tokens that the step before sampled, put among a step's ids, over the executor.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/kernels/kernel_testing.h"
#include "kernels/simulated/executor.h"
#include "tests/kernels/simulated/launch_testing.h"

namespace tessera::kernels::cuda {
namespace {

TEST(SimtFillPlaceholders, PutsEverySampledTokenInItsPlacesAndTouchesNothingElse) {
  simt::SetChecks({.global_races = true});
  std::mt19937 random(7);
  for (int64_t n : {1, 2, 255, 256, 257, 1000}) {
    const int64_t num_sampled = n / 2 + 1;
    std::vector<SampledRow> sampled(num_sampled);
    for (SampledRow& result : sampled) result.id = static_cast<int32_t>(random() % 100000);
    sampled.back().id = -1;  // a row that was not finite
    std::vector<int32_t> ids(n), expected(n);
    for (int64_t i = 0; i < n; ++i) {
      // Some known, some sampled, one sample more than once, the last one surely.
      const int64_t sample =
          i + 1 == n ? num_sampled - 1 : static_cast<int64_t>(random() % num_sampled);
      const bool fed = i + 1 == n || random() % 3 != 0;
      ids[i] = static_cast<int32_t>(fed ? -1 - sample : i);
      expected[i] = fed ? sampled[sample].id : ids[i];
    }
    const DeviceArray<SampledRow> device_sampled(sampled);
    DeviceArray<int32_t> device_ids(ids);
    RunLaunch(LaunchFillPlaceholders({.sampled = device_sampled.data(), .rows = num_sampled}, n,
                                     device_ids.data(), nullptr));
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(device_ids[i], expected[i]) << absl::StrCat("token ", i, " of ", n);
    }
  }
  simt::SetChecks({});
}

// Scores and ids of few values, so that ranks tie often; rows that are not finite on one rank.
TEST(SimtFillPlaceholders, ChoosesTheBestOfTheRanksSamples) {
  simt::SetChecks({.global_races = true});
  std::mt19937 random(8);
  const int64_t rows = 300, pitch = 307;
  for (int ranks : {2, 3, 4, 8}) {
    std::vector<SampledRow> sampled((ranks - 1) * pitch + rows);
    std::vector<int32_t> ids(rows), expected(rows);
    for (int64_t row = 0; row < rows; ++row) {
      ids[row] = static_cast<int32_t>(-1 - row);
      const SampledRow* best = nullptr;
      bool finite = true;
      for (int rank = 0; rank < ranks; ++rank) {
        SampledRow& result = sampled[rank * pitch + row];
        result.score = static_cast<double>(random() % 3) - 2;
        // Vocabularies are split: a lower rank's ids are lower; but the rule does not need that.
        result.id = static_cast<int32_t>(random() % 4 * 10 + rank);
        if (random() % 20 == 0) result.id = -1, finite = false;
        if (best == nullptr || result.score > best->score ||
            (result.score == best->score && result.id < best->id)) {
          best = &result;
        }
      }
      expected[row] = finite ? best->id : -1;
    }
    const DeviceArray<SampledRow> device_sampled(sampled);
    DeviceArray<int32_t> device_ids(ids);
    RunLaunch(LaunchFillPlaceholders(
        {.sampled = device_sampled.data(), .rows = rows, .ranks = ranks, .pitch = pitch}, rows,
        device_ids.data(), nullptr));
    for (int64_t row = 0; row < rows; ++row) {
      EXPECT_EQ(device_ids[row], expected[row])
          << absl::StrCat("row ", row, " of ", ranks, " ranks");
    }
  }
  simt::SetChecks({});
}

}  // namespace
}  // namespace tessera::kernels::cuda
