// Penalties, bias, bans and masks over a split vocabulary against their formulas over the whole row.
#include "worker/engine/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/split_sampling.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

constexpr int kVocab = 211;

// One to four ranks, even and not, one with a single id.
std::vector<std::vector<v1::Range>> Splits() {
  return {SplitAt({211}),           SplitAt({105, 211}),        SplitAt({1, 211}),
          SplitAt({70, 141, 211}),  SplitAt({8, 203, 211}),     SplitAt({53, 106, 159, 211}),
          SplitAt({3, 4, 150, 211})};
}

// Ids that change and how, different from row to row.
void Ask(int row, std::mt19937& random, Row& out) {
  auto some_id = [&] { return static_cast<int32_t>(random() % kVocab); };
  if (row % 2 == 0) out.params.set_repetition_penalty(row % 4 == 0 ? 1.7f : 0.6f);
  if (row % 3 == 0) out.params.set_presence_penalty(row % 6 == 0 ? 1.5f : -0.75f);
  if (row % 5 < 2) out.params.set_frequency_penalty(0.4f);
  for (int32_t id = row; id < kVocab; id += 7) out.logits_state.add_prompt_ids(id);
  for (int i = 0; i < 60; ++i) out.logits_state.add_output_ids(some_id() / 2);
  if (row % 3 == 1) {
    for (int32_t id = row % 11; id < kVocab; id += 11) {
      out.params.add_bias_ids(id);
      out.params.add_bias_values(static_cast<float>(id % 5) - 2.5f);
    }
  }
  if (row % 4 == 1) {
    for (int i = 0; i < 50; ++i) out.logits_state.add_banned_ids(some_id());
  }
  if (row % 4 >= 2) {
    std::string mask((kVocab + 7) / 8, '\0');
    const int32_t allowed = row % 8 >= 6 ? 2 : 40;  // few: ranks without any
    for (int i = 0; i < allowed; ++i) {
      const int32_t id = some_id();
      mask[id / 8] |= static_cast<char>(1 << (id % 8));
    }
    out.logits_state.set_allowed_mask(mask);
  }
}

std::vector<Row> ChangedRows() {
  const std::vector<v1::SamplingParams> kinds = {GreedyLike(),
                                                 Params(1, 0, 1, 0),
                                                 Params(0.8f, 5, 1, 0),
                                                 Params(1.3f, 0, 0.9f, 0),
                                                 Params(1, 0, 1, 0.05f),
                                                 Params(2, 50, 0.8f, 0.02f),
                                                 Params(30, 0, 0.99f, 0)};
  std::mt19937 random(4);
  std::vector<Row> rows;
  for (int i = 0; i < 240; ++i) {
    Row row = MakeRow(kinds[i % kinds.size()], 5 + i, RandomLogits(kVocab, 1 + i % 3, 900 + i));
    row.params.set_seed(i / 2);
    Ask(i, random, row);
    rows.push_back(row);
  }
  return rows;
}

TEST(LogitsProcessorsTest, AnySplitSamplesTheTokensOfTheDefinition) {
  const std::vector<Row> rows = ChangedRows();
  std::vector<int32_t> expected;
  int moved = 0;  // the changes matter
  for (Row row : rows) {
    expected.push_back(SampledByDefinition(row));
    row.logits_state.Clear();
    row.params.clear_bias_ids();
    moved += SampledByDefinition(row) != expected.back();
  }
  EXPECT_GT(moved, 100);
  for (const auto& vocab : Splits()) {
    for (int64_t max_candidates : {2, 16, 500}) {
      SCOPED_TRACE(vocab.size());
      SCOPED_TRACE(max_candidates);
      for (const Outcome& outcome : SampleOnAllRanks(rows, vocab, max_candidates)) {
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        EXPECT_EQ(Ids(outcome), expected);
      }
    }
  }
}

TEST(LogitsProcessorsTest, ARowAloneSamplesWhatItSamplesInABatch) {
  const std::vector<Row> rows = ChangedRows();
  const std::vector<int32_t> together = Ids(SampleOnAllRanks(rows, Split(kVocab, 2), 16)[0]);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(Ids(SampleOnAllRanks({rows[i]}, Split(kVocab, 2), 16)[0])[0], together[i]) << i;
  }
}

TEST(LogitsProcessorsTest, ThePartOfARowIsTheChangedRowsPart) {
  const std::vector<Row> rows = ChangedRows();
  LogitsProcessors processors;
  for (const Row& row : rows) {
    const std::vector<float> expected = ProcessedByDefinition(row);
    for (const v1::Range& own : SplitAt({211, 208, 7, 100, 101, 64})) {  // also upside down: empty
      if (own.end() <= own.begin()) continue;
      std::vector<float> part = PartOf({row.logits}, own);
      processors.Apply(row.params, row.logits_state, own.begin(), absl::MakeSpan(part));
      EXPECT_EQ(part, PartOf({expected}, own));
    }
  }
}

TEST(LogitsProcessorsTest, LogprobsAreThoseOfTheUnchangedRow) {
  std::vector<Row> rows = ChangedRows();
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].params.set_num_logprobs(static_cast<int>(i % 6));
  }
  for (const auto& vocab : Splits()) {
    SCOPED_TRACE(vocab.size());
    const Outcome outcome = SampleOnAllRanks(rows, vocab, 16)[0];
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::vector<double> expected = LogSoftmax(rows[i].logits);
      const v1::SampledToken& token = outcome.tokens[i];
      EXPECT_EQ(token.token_id(), SampledByDefinition(rows[i]));
      EXPECT_NEAR(token.logprob(), expected[token.token_id()], 1e-5);
      const std::vector<int32_t> best =
          KeptByDefinition(MakeRow(Params(1, 0, 1, 0), 0, rows[i].logits));
      ASSERT_EQ(token.top_ids_size(), static_cast<int>(i % 6));
      ASSERT_EQ(token.top_logprobs_size(), static_cast<int>(i % 6));
      for (int k = 0; k < token.top_ids_size(); ++k) {
        EXPECT_EQ(token.top_ids(k), best[k]);
        EXPECT_NEAR(token.top_logprobs(k), expected[best[k]], 1e-5);
      }
    }
  }
}

TEST(LogitsProcessorsTest, NothingToSampleOnAnyRankIsAnErrorOnEveryRank) {
  for (const v1::SamplingParams& params :
       {GreedyLike(), Params(1, 0, 1, 0), Params(1, 5, 0.9f, 0.1f, 2), Params(1, 0, 0.9f, 0)}) {
    Row row = MakeRow(params, 11, RandomLogits(kVocab, 1, 1));
    for (int32_t id = 0; id < kVocab; ++id) row.logits_state.add_banned_ids(id);
    for (const Outcome& outcome : SampleOnAllRanks({row}, Split(kVocab, 3), 16)) {
      EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
      EXPECT_THAT(std::string(outcome.status.message()),
                  HasSubstr("sequence 7, position 11: no token may be sampled"));
    }
  }
}

TEST(LogitsProcessorsTest, ANonFiniteLogitThatMayNotBeSampledIsStillAnError) {
  Row row = MakeRow(Params(1, 0, 0.9f, 0), 11, RandomLogits(kVocab, 1, 1));
  row.logits_state.add_banned_ids(200);
  row.logits[200] = -std::numeric_limits<float>::infinity();
  for (const Outcome& outcome : SampleOnAllRanks({row}, Split(kVocab, 3), 16)) {
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("a NaN or an infinity"));
  }
}

// However large the numbers that pass the check, a logit that may be sampled stays finite.
TEST(LogitsProcessorsTest, HugeNumbersKeepAllowedLogitsFinite) {
  const float huge = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (float repetition : {huge, tiny, 0.0f}) {
    for (float other : {huge, -huge}) {
      Row row = MakeRow(Params(tiny, 0, 0.9f, 0), 1, RandomLogits(kVocab, 3, 1));
      row.params.set_repetition_penalty(repetition);
      row.params.set_presence_penalty(other);
      row.params.set_frequency_penalty(other);
      for (int32_t id = 0; id < kVocab; ++id) {
        row.params.add_bias_ids(id);
        row.params.add_bias_values(id % 2 == 0 ? other : -other);
        row.logits_state.add_prompt_ids(id);
        for (int i = 0; i < 3; ++i) row.logits_state.add_output_ids(id);
      }
      LogitsProcessors processors;
      std::vector<float> logits = row.logits;
      processors.Apply(row.params, row.logits_state, 0, absl::MakeSpan(logits));
      for (float logit : logits) EXPECT_TRUE(std::isfinite(logit));
      for (const Outcome& outcome : SampleOnAllRanks({row}, Split(kVocab, 2), 16)) {
        EXPECT_TRUE(outcome.status.ok()) << outcome.status;
      }
    }
  }
}

TEST(LogitsProcessorsTest, KnowsWhenThereIsNothingToChange) {
  v1::SamplingParams params = GreedyLike();
  v1::LogitsState logits_state;
  EXPECT_FALSE(ProcessesLogits(params, logits_state));
  params.set_repetition_penalty(1);
  logits_state.add_prompt_ids(1);
  logits_state.add_output_ids(1);
  EXPECT_FALSE(HasPenalties(params));
  EXPECT_FALSE(ProcessesLogits(params, logits_state));
  params.set_presence_penalty(1);
  EXPECT_TRUE(HasPenalties(params));
  EXPECT_TRUE(ProcessesLogits(params, logits_state));
  logits_state.clear_output_ids();
  EXPECT_FALSE(ProcessesLogits(params, logits_state));
  params.set_repetition_penalty(1.1f);
  EXPECT_TRUE(ProcessesLogits(params, logits_state));
}

}  // namespace
}  // namespace tessera::worker
