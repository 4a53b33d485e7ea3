// The sampler over a split vocabulary against a plain one in double over the whole.
#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/split_sampling.h"

namespace tessera::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Row> MixedRows(int vocab) {
  const std::vector<v1::SamplingParams> kinds = {GreedyLike(),
                                                 Params(1, 0, 1, 0),
                                                 Params(0.7f, 40, 1, 0),
                                                 Params(1.3f, 0, 0.9f, 0),
                                                 Params(1, 0, 1, 0.05f),
                                                 Params(2, 50, 0.8f, 0.02f),
                                                 Params(0.01f, 0, 1, 0),
                                                 Params(1, 1, 1, 0),
                                                 Params(1, 0, 0, 0),
                                                 Params(5, 0, 0.999f, 0),
                                                 Params(100, 400, 0.99f, 0)};
  std::vector<Row> rows;
  for (int i = 0; i < 66; ++i) {
    Row row = MakeRow(kinds[i % kinds.size()], 10 + i, RandomLogits(vocab, 0.5 + i % 4, 77 + i));
    row.params.set_seed(i / 3);
    rows.push_back(row);
  }
  return rows;
}

TEST(SamplerTest, AnySplitSamplesTheTokensOfTheDefinition) {
  const std::vector<Row> rows = MixedRows(1003);
  std::vector<int32_t> expected;
  for (const Row& row : rows) expected.push_back(SampledByDefinition(row));
  for (int ranks : {1, 2, 3, 5}) {
    for (int64_t max_candidates : {4, 32, 2000}) {
      SCOPED_TRACE("ranks " + std::to_string(ranks) + ", candidates " +
                   std::to_string(max_candidates));
      for (const Outcome& outcome : SampleOnAllRanks(rows, Split(1003, ranks), max_candidates)) {
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        EXPECT_EQ(Ids(outcome), expected);
      }
    }
  }
}

TEST(SamplerTest, RowsAreGatheredOnlyWhenCandidatesDoNotSettleTheCut) {
  const std::vector<float> logits = RandomLogits(1000, 3, 5);
  const std::vector<Row> narrow = {MakeRow(Params(1, 20, 0.9f, 0), 1, logits)};
  EXPECT_EQ(SampleOnAllRanks(narrow, Split(1000, 3), 20)[0].rows_gathered, 0);
  const std::vector<Row> wide = {MakeRow(Params(50, 0, 0.99f, 0), 1, logits)};
  EXPECT_EQ(SampleOnAllRanks(wide, Split(1000, 3), 20)[0].rows_gathered, 1);
  const std::vector<Row> plain = {MakeRow(Params(50, 0, 1, 0), 1, logits),
                                  MakeRow(GreedyLike(), 1, logits)};
  EXPECT_EQ(SampleOnAllRanks(plain, Split(1000, 3), 20)[0].rows_gathered, 0);
}

TEST(SamplerTest, TiesGoToTheLowestTokenId) {
  const std::vector<float> flat(90, 1.5f);
  const std::vector<Row> rows = {MakeRow(GreedyLike(), 0, flat),
                                 MakeRow(Params(1, 1, 1, 0), 0, flat)};
  for (int ranks : {1, 3}) {
    EXPECT_THAT(Ids(SampleOnAllRanks(rows, Split(90, ranks), 8)[0]), ElementsAre(0, 0));
  }
}

// Chi-square of 20000 seeds against softmax(logits / T) over 12 tokens: 11 degrees of freedom, of
// which 0.1% of honest samples exceed 31.3. Seeds are fixed, so the outcome is too.
double ChiSquare(const std::map<int32_t, int>& counts, const std::vector<double>& probabilities,
                 int samples) {
  double sum = 0;
  for (size_t id = 0; id < probabilities.size(); ++id) {
    const double expected = probabilities[id] * samples;
    const auto found = counts.find(static_cast<int32_t>(id));
    const double seen = found == counts.end() ? 0 : found->second;
    if (expected > 0) sum += (seen - expected) * (seen - expected) / expected;
  }
  return sum;
}

std::vector<double> Softmax(const Row& row) {
  std::vector<double> probabilities(row.logits.size(), 0);
  double mass = 0;
  for (int32_t id : KeptByDefinition(row)) {
    mass += probabilities[id] = std::exp(double{row.logits[id]} / row.params.temperature());
  }
  for (double& p : probabilities) p /= mass;
  return probabilities;
}

std::map<int32_t, int> CountSamples(Row row, int samples, bool vary_seed) {
  std::vector<Row> rows;
  for (int i = 0; i < samples; ++i) {
    row.params.set_seed(vary_seed ? i : 42);
    row.position = vary_seed ? 5 : i;
    rows.push_back(row);
  }
  std::map<int32_t, int> counts;
  for (int32_t id : Ids(SampleOnAllRanks(rows, Split(12, 2), 256)[0])) ++counts[id];
  return counts;
}

TEST(SamplerTest, PlainSamplingFollowsTheSoftmaxOverSeedsAndOverPositions) {
  const Row row = MakeRow(Params(1.5f, 0, 1, 0), 0, RandomLogits(12, 1.0, 3));
  constexpr int kSamples = 20000;
  EXPECT_LT(ChiSquare(CountSamples(row, kSamples, true), Softmax(row), kSamples), 31.3);
  EXPECT_LT(ChiSquare(CountSamples(row, kSamples, false), Softmax(row), kSamples), 31.3);
}

TEST(SamplerTest, CutSamplingFollowsTheRenormalizedSoftmax) {
  const Row row = MakeRow(Params(0.8f, 9, 0.95f, 0.01f), 0, RandomLogits(12, 1.0, 4));
  constexpr int kSamples = 20000;
  const auto counts = CountSamples(row, kSamples, true);
  EXPECT_LT(ChiSquare(counts, Softmax(row), kSamples), 31.3);
  const std::vector<int32_t> kept = KeptByDefinition(row);
  EXPECT_LT(kept.size(), 12u);
  for (const auto& [id, count] : counts) {
    EXPECT_TRUE(std::find(kept.begin(), kept.end(), id) != kept.end()) << id;
  }
}

TEST(SamplerTest, LogprobsAreThoseOfTheUncutModel) {
  Row row = MakeRow(Params(0.7f, 3, 0.9f, 0, /*num_logprobs=*/5), 3, RandomLogits(200, 2, 9));
  double mass = 0;
  for (float logit : row.logits) mass += std::exp(double{logit});
  Row by_logit = row;
  by_logit.params = Params(1, 5, 1, 0);
  const std::vector<int32_t> best = KeptByDefinition(by_logit);
  for (int ranks : {1, 2, 3, 5}) {
    for (const v1::SamplingParams& params :
         {row.params, Params(0, 0, 1, 0, 5), Params(1, 0, 1, 0, 5)}) {
      row.params = params;
      const Outcome outcome = SampleOnAllRanks({row}, Split(200, ranks), 4)[0];
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      const v1::SampledToken& token = outcome.tokens[0];
      EXPECT_NEAR(token.logprob(), row.logits[token.token_id()] - std::log(mass), 1e-5);
      EXPECT_EQ(token.sequence_id(), 7);
      ASSERT_EQ(token.top_ids_size(), 5);
      for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(token.top_ids(i), best[i]);
        EXPECT_NEAR(token.top_logprobs(i), row.logits[best[i]] - std::log(mass), 1e-5);
      }
    }
  }
}

TEST(SamplerTest, MoreLogprobsThanARankHasRows) {
  const Row row = MakeRow(Params(0, 0, 1, 0, /*num_logprobs=*/20), 3, RandomLogits(20, 2, 9));
  const Outcome outcome = SampleOnAllRanks({row}, Split(20, 3), 4)[0];
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.tokens[0].top_ids_size(), 20);
  const std::set<int32_t> distinct(outcome.tokens[0].top_ids().begin(),
                                   outcome.tokens[0].top_ids().end());
  EXPECT_EQ(distinct.size(), 20u);
}

TEST(SamplerTest, ANonFiniteLogitIsAnErrorOnEveryRank) {
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const v1::SamplingParams& params :
         {GreedyLike(), Params(1, 0, 1, 0), Params(1, 5, 0.9f, 0, 2)}) {
      Row row = MakeRow(params, 11, RandomLogits(300, 1, 1));
      row.logits[250] = bad;
      for (const Outcome& outcome : SampleOnAllRanks({row}, Split(300, 3), 16)) {
        EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("sequence 7, position 11"));
      }
    }
  }
}

// What the devices of all ranks sample from their parts of the rows, one rank after the other.
class SampledByAllRanks : public kernels::SamplingQueue {
 public:
  static constexpr int kMaxCandidates = 8;

  SampledByAllRanks(const std::vector<Row>& rows, const std::vector<v1::Range>& vocab) {
    for (const v1::Range& own : vocab) {
      for (const Row& row : rows) SamplePart(row, own);
    }
  }

  absl::Status Collect(kernels::SampledRow* sampled, kernels::Candidate* candidates) override {
    std::copy(sampled_.begin(), sampled_.end(), sampled);
    std::copy(candidates_.begin(), candidates_.end(), candidates);
    return absl::OkStatus();
  }

  size_t GroupBytes(int, int64_t) const override { return 0; }
  absl::Status Reserve(int64_t, kernels::SamplingGroup) override { return absl::OkStatus(); }
  absl::Status Begin(absl::Span<const kernels::SampleRow>) override { return absl::OkStatus(); }
  void Sample(const float*, int64_t, int32_t, int64_t, int64_t) override {}
  absl::Status End() override { return absl::OkStatus(); }
  absl::StatusOr<bool> Arrived() override { return true; }

 private:
  void SamplePart(const Row& row, const v1::Range& own) {
    const std::vector<float> part = PartOf({row.logits}, own);
    const LogitRow logits{part, own.begin()};
    kernels::SampledRow& sampled = sampled_.emplace_back(logits.Greedy());
    std::vector<kernels::Candidate> best;
    if (sampled.finite()) logits.Best(kMaxCandidates, best);
    best.resize(kMaxCandidates, kernels::Candidate());
    candidates_.insert(candidates_.end(), best.begin(), best.end());
    if (!sampled.finite()) return;
    sampled.raw_mass = logits.LogMass(1, sampled.greedy_logit);
    if (row.params.temperature() > 0) {
      sampled = logits.Sampled(row.params.temperature(),
                               kernels::NoiseRow(row.params.seed(), row.position), sampled);
    }
  }

  std::vector<kernels::SampledRow> sampled_;
  std::vector<kernels::Candidate> candidates_;
};

absl::StatusOr<std::vector<v1::SampledToken>> TakeSampled(const std::vector<Row>& rows,
                                                          const std::vector<v1::Range>& vocab) {
  // Only the first rank's: nobody is asked.
  const auto communicators = MakeThreadCommunicators(static_cast<int>(vocab.size()), {});
  Sampler sampler(communicators[0].get(), vocab, Sampler::kDefaultCandidates);
  SampledByAllRanks queue(rows, vocab);
  std::vector<SampleRequest> requests;
  for (const Row& row : rows) {
    requests.push_back({&row.params, /*sequence_id=*/7, row.position, &row.logits_state});
    EXPECT_TRUE(sampler.IsSampledByDevice(requests.back(), SampledByAllRanks::kMaxCandidates));
  }
  SampledLogits logits(&queue, SampledByAllRanks::kMaxCandidates);
  return sampler.TakeSampled(requests, logits);
}

TEST(SamplerTest, WhatTheDevicesOfAllRanksDrewGivesTheTokensOfTheirRows) {
  std::vector<Row> rows;
  for (int i = 0; i < 40; ++i) {
    const float temperature = i % 2 == 0 ? 0.0f : 0.4f + 0.1f * static_cast<float>(i);
    rows.push_back(MakeRow(Params(temperature, 0, 1, 0, i % 3 == 0 ? i % 9 : -1), 10 + i,
                           RandomLogits(1003, 0.5 + i % 4, 177 + i)));
    rows.back().params.set_seed(i / 3);
  }
  // A tie over ranks, whatever the split.
  rows[0].logits.assign(1003, 0.5f);
  for (int ranks : {1, 2, 3, 5}) {
    const std::vector<v1::Range> vocab = Split(1003, ranks);
    const auto taken = TakeSampled(rows, vocab);
    ASSERT_TRUE(taken.ok()) << taken.status();
    const Outcome sampled = SampleOnAllRanks(rows, vocab, Sampler::kDefaultCandidates)[0];
    ASSERT_EQ(taken->size(), sampled.tokens.size());
    EXPECT_EQ((*taken)[0].token_id(), 0);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ((*taken)[i].ShortDebugString(), sampled.tokens[i].ShortDebugString())
          << ranks << " ranks, row " << i;
      EXPECT_EQ((*taken)[i].SerializeAsString(), sampled.tokens[i].SerializeAsString());
    }
  }
}

TEST(SamplerTest, ARowThatIsNotFiniteOnOneDeviceIsAnError) {
  for (int where : {0, 150, 299}) {
    Row row = MakeRow(GreedyLike(), 11, RandomLogits(300, 1, 1));
    row.logits[where] = std::numeric_limits<float>::quiet_NaN();
    const auto taken = TakeSampled({row}, Split(300, 3));
    EXPECT_EQ(taken.status().code(), absl::StatusCode::kInternal) << where;
    EXPECT_THAT(std::string(taken.status().message()), HasSubstr("sequence 7, position 11"));
  }
}

TEST(NoiseRowTest, TheBoundIsNeverBelowTheNoise) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const kernels::NoiseRow noise(seed, static_cast<int64_t>(seed) * 3);
    for (int32_t id = 0; id < 20000; ++id) {
      ASSERT_TRUE(std::isfinite(noise.Gumbel(id)));
      ASSERT_LE(noise.Gumbel(id), noise.GumbelBound(id)) << seed << " " << id;
    }
  }
}

TEST(NoiseRowTest, DependsOnSeedPositionAndToken) {
  const double reference = kernels::NoiseRow(1, 2).Gumbel(3);
  EXPECT_EQ(kernels::NoiseRow(1, 2).Gumbel(3), reference);
  EXPECT_NE(kernels::NoiseRow(2, 2).Gumbel(3), reference);
  EXPECT_NE(kernels::NoiseRow(1, 3).Gumbel(3), reference);
  EXPECT_NE(kernels::NoiseRow(1, 2).Gumbel(4), reference);
}

}  // namespace
}  // namespace tessera::worker
