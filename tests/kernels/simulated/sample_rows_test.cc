// Sampling over the executor against what the host computes (worker/engine/logit_row.h): the same
// samples from the same seeds.
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/kernels/kernel_testing.h"
#include "kernels/simulated/executor.h"
#include "tests/kernels/simulated/launch_testing.h"
#include "worker/engine/logit_row.h"

namespace tessera::kernels::cuda {
namespace {

struct Sampled {
  std::vector<SampledRow> results;
  std::vector<Candidate> candidates;
};

Sampled Sample(const std::vector<float>& logits, const std::vector<SampleRow>& requests,
               int32_t first_id) {
  const auto rows = static_cast<int64_t>(requests.size());
  const DeviceArray<float> device_logits(logits);
  const DeviceArray<SampleRow> device_requests(requests);
  DeviceArray<SampledRow> results(rows);
  DeviceArray<Candidate> candidates(rows * kMaxCandidates);
  RunLaunch(LaunchSampleRows(device_logits.data(), rows,
                             static_cast<int64_t>(logits.size()) / rows, first_id,
                             device_requests.data(), results.data(), candidates.data(), nullptr));
  return {{results.data(), results.data() + rows},
          {candidates.data(), candidates.data() + candidates.size()}};
}

void ExpectAsOnHost(const std::vector<float>& logits, const std::vector<SampleRow>& requests,
                    int32_t first_id, const std::string& what) {
  const Sampled sampled = Sample(logits, requests, first_id);
  const size_t vocab = logits.size() / requests.size();
  for (size_t r = 0; r < requests.size(); ++r) {
    SCOPED_TRACE(absl::StrCat(what, ", row ", r));
    const worker::LogitRow row{absl::MakeSpan(logits).subspan(r * vocab, vocab), first_id};
    const SampleRow& request = requests[r];
    const SampledRow& result = sampled.results[r];
    const SampledRow greedy = row.Greedy();
    EXPECT_EQ(result.greedy_id, greedy.id);
    EXPECT_EQ(result.greedy_logit, greedy.logit);
    SampledRow sample = greedy;
    if (request.temperature > 0) {
      sample = row.Sampled(request.temperature, NoiseRow(request.seed, request.position), greedy);
      EXPECT_NEAR(result.scaled_mass, row.LogMass(request.temperature, greedy.logit), 1e-5);
    }
    EXPECT_EQ(result.id, sample.id);
    EXPECT_EQ(result.logit, sample.logit);
    EXPECT_DOUBLE_EQ(result.score, sample.score);
    EXPECT_NEAR(result.raw_mass, row.LogMass(1.0, greedy.logit), 1e-5);
    std::vector<Candidate> best;
    row.Best(request.num_candidates, best);
    best.resize(request.num_candidates, Candidate());
    for (int i = 0; i < request.num_candidates; ++i) {
      const Candidate& candidate = sampled.candidates[r * kMaxCandidates + i];
      EXPECT_EQ(candidate.id, best[i].id) << "candidate " << i;
      EXPECT_EQ(candidate.logit, best[i].logit) << "candidate " << i;
    }
  }
}

class SimtSampleRows : public ::testing::Test {
 protected:
  void SetUp() override { simt::SetChecks({.global_races = true}); }
  void TearDown() override { simt::SetChecks({}); }

  std::vector<float> Scaled(int64_t count, float by) {
    std::vector<float> floats = RandomFloats(count, random_);
    for (float& value : floats) value *= by;
    return floats;
  }

  std::mt19937 random_{31};
};

TEST_F(SimtSampleRows, SamplesWhatTheHostSamples) {
  for (int64_t vocab : {1, 2, 31, 1000, 1024, 1025, 5000}) {
    const std::vector<SampleRow> requests = {
        {.seed = 1, .position = 0, .temperature = 0, .num_candidates = 0},
        {.seed = 1, .position = 7, .temperature = 1, .num_candidates = 1},
        {.seed = 99, .position = 7, .temperature = 0.3f, .num_candidates = 20},
        {.seed = ~uint64_t{0}, .position = 1 << 20, .temperature = 5, .num_candidates = 256}};
    ExpectAsOnHost(Scaled(4 * vocab, 3), requests, 128, absl::StrCat("vocab ", vocab));
  }
}

TEST_F(SimtSampleRows, TiesGoToTheLowestId) {
  std::vector<float> logits(3000, 1.0f);
  logits[0] = logits[2999] = -1.0f;
  ExpectAsOnHost(logits, {{.num_candidates = 256}}, 0, "nearly all equal");
  for (float& value : logits) value = 0.0f;
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = -0.0f;
  const Sampled sampled = Sample(logits, {{.num_candidates = 10}}, 50);
  EXPECT_EQ(sampled.results[0].id, 50);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(sampled.candidates[i].id, 50 + i);
}

// A thread looks at every 1024th logit. The bests of 255 threads hide all their others, so far more
// logits pass the bound than there is room for, and the best are found one by one.
TEST_F(SimtSampleRows, BestInFewThreadsShares) {
  std::vector<float> logits(1024 * 40);
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t thread = i % 1024;
    logits[i] = thread < 255 ? -3.0f + 1e-4f * static_cast<float>(i % 977)
                             : (thread == 255 ? -4.0f : -5.0f);
  }
  ExpectAsOnHost(logits, {{.num_candidates = 256}}, 0, "few threads");
}

TEST_F(SimtSampleRows, NotFinite) {
  for (float bad : {std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> logits = Scaled(2 * 1500, 1);
    logits[1500 + 1234] = bad;
    const Sampled sampled = Sample(logits, {{.num_candidates = 2}, {.num_candidates = 2}}, 0);
    EXPECT_GE(sampled.results[0].id, 0);
    EXPECT_EQ(sampled.results[1].id, -1);
  }
}

}  // namespace
}  // namespace tessera::kernels::cuda
