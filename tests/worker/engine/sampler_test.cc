// The sampler over a split vocabulary against a plain one in double over the whole.
#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tessera::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::SamplingParams Params(float temperature, int top_k, float top_p, float min_p,
                          int num_logprobs = -1) {
  v1::SamplingParams params;
  params.set_temperature(temperature);
  params.set_top_k(top_k);
  params.set_top_p(top_p);
  params.set_min_p(min_p);
  params.set_num_logprobs(num_logprobs);
  return params;
}

v1::SamplingParams GreedyLike() { return Params(0, 0, 1, 0); }

std::vector<float> RandomLogits(int count, double spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, static_cast<float>(spread));
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// An uneven deal of `size` ids over `ranks`.
std::vector<v1::Range> Split(int size, int ranks) {
  std::vector<v1::Range> ranges(ranks);
  for (int i = 0; i < ranks; ++i) {
    ranges[i].set_begin(i == 0 ? 0 : ranges[i - 1].end());
    ranges[i].set_end(i + 1 == ranks ? size : (i + 1) * size / ranks + i % 2);
  }
  return ranges;
}

struct Row {
  v1::SamplingParams params;
  int64_t position = 0;
  std::vector<float> logits;
};

struct Outcome {
  absl::Status status;
  std::vector<v1::SampledToken> tokens;
  int64_t rows_gathered = 0;
};

// Every rank's outcome of sampling the rows with the vocabulary split over `ranks` threads.
std::vector<Outcome> SampleOnAllRanks(const std::vector<Row>& rows, int ranks,
                                      int64_t max_candidates) {
  const std::vector<v1::Range> vocab = Split(static_cast<int>(rows[0].logits.size()), ranks);
  auto communicators = MakeThreadCommunicators(ranks, {});
  std::vector<Outcome> outcomes(ranks);
  std::vector<std::thread> threads;
  for (int tp_rank = 0; tp_rank < ranks; ++tp_rank) {
    threads.emplace_back([&, tp_rank] {
      Sampler sampler(communicators[tp_rank].get(), vocab, max_candidates);
      std::vector<SampleRequest> requests;
      std::vector<float> own;
      for (const Row& row : rows) {
        requests.push_back({&row.params, /*sequence_id=*/7, row.position});
        own.insert(own.end(), row.logits.begin() + vocab[tp_rank].begin(),
                   row.logits.begin() + vocab[tp_rank].end());
      }
      auto tokens = sampler.Sample(requests, own);
      outcomes[tp_rank].status = tokens.status();
      if (tokens.ok()) outcomes[tp_rank].tokens = *std::move(tokens);
      outcomes[tp_rank].rows_gathered = sampler.rows_gathered();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

std::vector<int32_t> Ids(const Outcome& outcome) {
  std::vector<int32_t> ids;
  for (const v1::SampledToken& token : outcome.tokens) ids.push_back(token.token_id());
  return ids;
}

// The tokens that the cuts leave, most probable first, by the definition and in double.
std::vector<int32_t> KeptByDefinition(const Row& row) {
  const v1::SamplingParams& params = row.params;
  std::vector<int32_t> order(row.logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return row.logits[a] != row.logits[b] ? row.logits[a] > row.logits[b] : a < b;
  });
  if (params.top_k() > 0) order.resize(std::min<size_t>(order.size(), params.top_k()));
  auto weight = [&](int32_t id) {
    return std::exp((double{row.logits[id]} - row.logits[order[0]]) / params.temperature());
  };
  double mass = 0, reached = 0;
  for (int32_t id : order) mass += weight(id);
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || reached < params.top_p() * mass)) {
    reached += weight(order[kept++]);
  }
  if (params.top_p() < 1) order.resize(kept);
  while (weight(order.back()) < params.min_p()) order.pop_back();
  return order;
}

// The token by the definition: Gumbel-max over what the cuts leave.
int32_t SampledByDefinition(const Row& row) {
  const std::vector<int32_t> kept = KeptByDefinition(row);
  if (row.params.temperature() == 0) return kept[0];
  const NoiseRow noise(row.params.seed(), row.position);
  int32_t best = -1;
  double best_score = -std::numeric_limits<double>::infinity();
  for (int32_t id : kept) {
    const double score = row.logits[id] / double{row.params.temperature()} + noise.Gumbel(id);
    if (score > best_score || (score == best_score && id < best)) {
      best = id;
      best_score = score;
    }
  }
  return best;
}

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
    Row row{kinds[i % kinds.size()], 10 + i, RandomLogits(vocab, 0.5 + i % 4, 77 + i)};
    row.params.set_seed(i / 3);
    rows.push_back(row);
  }
  return rows;
}

TEST(SamplerTest, AnySplitDrawsTheTokensOfTheDefinition) {
  const std::vector<Row> rows = MixedRows(1003);
  std::vector<int32_t> expected;
  for (const Row& row : rows) expected.push_back(SampledByDefinition(row));
  for (int ranks : {1, 2, 3, 5}) {
    for (int64_t max_candidates : {4, 32, 2000}) {
      SCOPED_TRACE("ranks " + std::to_string(ranks) + ", candidates " +
                   std::to_string(max_candidates));
      for (const Outcome& outcome : SampleOnAllRanks(rows, ranks, max_candidates)) {
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        EXPECT_EQ(Ids(outcome), expected);
      }
    }
  }
}

TEST(SamplerTest, RowsAreGatheredOnlyWhenCandidatesDoNotSettleTheCut) {
  const std::vector<float> logits = RandomLogits(1000, 3, 5);
  const std::vector<Row> narrow = {{Params(1, 20, 0.9f, 0), 1, logits}};
  EXPECT_EQ(SampleOnAllRanks(narrow, 3, 20)[0].rows_gathered, 0);
  const std::vector<Row> wide = {{Params(50, 0, 0.99f, 0), 1, logits}};
  EXPECT_EQ(SampleOnAllRanks(wide, 3, 20)[0].rows_gathered, 1);
  const std::vector<Row> plain = {{Params(50, 0, 1, 0), 1, logits}, {GreedyLike(), 1, logits}};
  EXPECT_EQ(SampleOnAllRanks(plain, 3, 20)[0].rows_gathered, 0);
}

TEST(SamplerTest, TiesGoToTheLowestTokenId) {
  const std::vector<float> flat(90, 1.5f);
  const std::vector<Row> rows = {{GreedyLike(), 0, flat}, {Params(1, 1, 1, 0), 0, flat}};
  for (int ranks : {1, 3}) {
    EXPECT_THAT(Ids(SampleOnAllRanks(rows, ranks, 8)[0]), ElementsAre(0, 0));
  }
}

// Chi-square of 20000 seeds against softmax(logits / T) over 12 tokens: 11 degrees of freedom, of
// which 0.1% of honest draws exceed 31.3. Seeds are fixed, so the outcome is too.
double ChiSquare(const std::map<int32_t, int>& counts, const std::vector<double>& probabilities,
                 int draws) {
  double sum = 0;
  for (size_t id = 0; id < probabilities.size(); ++id) {
    const double expected = probabilities[id] * draws;
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

std::map<int32_t, int> CountDraws(Row row, int draws, bool vary_seed) {
  std::vector<Row> rows;
  for (int i = 0; i < draws; ++i) {
    row.params.set_seed(vary_seed ? i : 42);
    row.position = vary_seed ? 5 : i;
    rows.push_back(row);
  }
  std::map<int32_t, int> counts;
  for (int32_t id : Ids(SampleOnAllRanks(rows, 2, 256)[0])) ++counts[id];
  return counts;
}

TEST(SamplerTest, PlainSamplingFollowsTheSoftmaxOverSeedsAndOverPositions) {
  const Row row{Params(1.5f, 0, 1, 0), 0, RandomLogits(12, 1.0, 3)};
  constexpr int kDraws = 20000;
  EXPECT_LT(ChiSquare(CountDraws(row, kDraws, true), Softmax(row), kDraws), 31.3);
  EXPECT_LT(ChiSquare(CountDraws(row, kDraws, false), Softmax(row), kDraws), 31.3);
}

TEST(SamplerTest, CutSamplingFollowsTheRenormalizedSoftmax) {
  const Row row{Params(0.8f, 9, 0.95f, 0.01f), 0, RandomLogits(12, 1.0, 4)};
  constexpr int kDraws = 20000;
  const auto counts = CountDraws(row, kDraws, true);
  EXPECT_LT(ChiSquare(counts, Softmax(row), kDraws), 31.3);
  const std::vector<int32_t> kept = KeptByDefinition(row);
  EXPECT_LT(kept.size(), 12u);
  for (const auto& [id, count] : counts) {
    EXPECT_TRUE(std::find(kept.begin(), kept.end(), id) != kept.end()) << id;
  }
}

TEST(SamplerTest, LogprobsAreThoseOfTheUncutModel) {
  Row row{Params(0.7f, 3, 0.9f, 0, /*num_logprobs=*/5), 3, RandomLogits(200, 2, 9)};
  double mass = 0;
  for (float logit : row.logits) mass += std::exp(double{logit});
  Row by_logit = row;
  by_logit.params = Params(1, 5, 1, 0);
  const std::vector<int32_t> best = KeptByDefinition(by_logit);
  for (int ranks : {1, 2, 3, 5}) {
    for (const v1::SamplingParams& params :
         {row.params, Params(0, 0, 1, 0, 5), Params(1, 0, 1, 0, 5)}) {
      row.params = params;
      const Outcome outcome = SampleOnAllRanks({row}, ranks, 4)[0];
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
  const Row row{Params(0, 0, 1, 0, /*num_logprobs=*/20), 3, RandomLogits(20, 2, 9)};
  const Outcome outcome = SampleOnAllRanks({row}, 3, 4)[0];
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
      Row row{params, 11, RandomLogits(300, 1, 1)};
      row.logits[250] = bad;
      for (const Outcome& outcome : SampleOnAllRanks({row}, 3, 16)) {
        EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("sequence 7, position 11"));
      }
    }
  }
}

TEST(NoiseRowTest, TheBoundIsNeverBelowTheNoise) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const NoiseRow noise(seed, static_cast<int64_t>(seed) * 3);
    for (int32_t id = 0; id < 20000; ++id) {
      ASSERT_TRUE(std::isfinite(noise.Gumbel(id)));
      ASSERT_LE(noise.Gumbel(id), noise.GumbelBound(id)) << seed << " " << id;
    }
  }
}

TEST(NoiseRowTest, DependsOnSeedPositionAndToken) {
  const double reference = NoiseRow(1, 2).Gumbel(3);
  EXPECT_EQ(NoiseRow(1, 2).Gumbel(3), reference);
  EXPECT_NE(NoiseRow(2, 2).Gumbel(3), reference);
  EXPECT_NE(NoiseRow(1, 3).Gumbel(3), reference);
  EXPECT_NE(NoiseRow(1, 2).Gumbel(4), reference);
}

}  // namespace
}  // namespace tessera::worker
