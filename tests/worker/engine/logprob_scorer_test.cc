// Log probabilities over a split vocabulary against the log-softmax of the whole row.
#include "worker/engine/logprob_scorer.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/split_sampling.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

constexpr int kVocab = 103;

using Rows = std::vector<std::vector<float>>;

struct Scored {
  absl::Status status;
  std::vector<v1::PromptLogprob> scores;
};

std::vector<Scored> ScoreOnAllRanks(const Rows& rows, const std::vector<LogprobRequest>& requests,
                                    const std::vector<v1::Range>& vocab) {
  std::vector<Scored> scored(vocab.size());
  OnAllRanks(static_cast<int>(vocab.size()), [&](int tp_rank, Communicator& tp) {
    LogprobScorer scorer(&tp, vocab);
    auto scores = scorer.Score(requests, PartOf(rows, vocab[tp_rank]));
    scored[tp_rank].status = scores.status();
    if (scores.ok()) scored[tp_rank].scores = *std::move(scores);
  });
  return scored;
}

LogprobRequest MakeRequest(size_t row, int32_t token_id, int64_t num_logprobs = 0) {
  return {.row = row,
          .token_id = token_id,
          .num_logprobs = num_logprobs,
          .sequence_id = 7,
          .position = 20};
}

void ExpectScore(const v1::PromptLogprob& score, const LogprobRequest& request,
                 const std::vector<float>& logits) {
  std::vector<int32_t> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const std::vector<double> expected = LogSoftmax(logits);
  EXPECT_EQ(score.token_id(), request.token_id);
  EXPECT_NEAR(score.logprob(), expected[request.token_id], 1e-5);
  EXPECT_EQ(order[score.vocab_rank() - 1], request.token_id);
  ASSERT_EQ(score.top_ids_size(), std::min<int64_t>(request.num_logprobs, kVocab));
  ASSERT_EQ(score.top_logprobs_size(), score.top_ids_size());
  for (int k = 0; k < score.top_ids_size(); ++k) {
    EXPECT_EQ(score.top_ids(k), order[k]);
    EXPECT_NEAR(score.top_logprobs(k), expected[order[k]], 1e-5);
  }
}

TEST(LogprobScorerTest, AnySplitGivesTheLogSoftmax) {
  Rows rows;
  std::vector<LogprobRequest> requests;
  std::mt19937 random(3);
  for (size_t row = 0; row < 20; ++row) {
    rows.push_back(RandomLogits(kVocab, 1 + row % 5, 50 + static_cast<uint32_t>(row)));
    // Ties, across ranks and within one.
    if (row % 2 == 0) {
      for (float& logit : rows.back()) logit = static_cast<float>(static_cast<int>(logit));
    }
    // Several requests for one row, in any order.
    for (int i = 0; i < 5; ++i) {
      requests.push_back(MakeRequest(row, static_cast<int32_t>(random() % kVocab), i * 7));
    }
  }
  requests.push_back(MakeRequest(0, 102, 500));  // more than there are
  for (const auto& vocab : {SplitAt({103}), SplitAt({52, 103}), SplitAt({1, 103}),
                            SplitAt({35, 69, 103}), SplitAt({3, 4, 100, 103})}) {
    SCOPED_TRACE(vocab.size());
    for (const Scored& scored : ScoreOnAllRanks(rows, requests, vocab)) {
      ASSERT_TRUE(scored.status.ok()) << scored.status;
      ASSERT_EQ(scored.scores.size(), requests.size());
      for (size_t i = 0; i < requests.size(); ++i) {
        ExpectScore(scored.scores[i], requests[i], rows[requests[i].row]);
      }
    }
  }
}

TEST(LogprobScorerTest, WithoutRequestsNothingIsExchanged) {
  // One rank of two alone would wait for the other.
  auto communicators = MakeThreadCommunicators(2, {.deadline = absl::Seconds(1)});
  LogprobScorer scorer(communicators[0].get(), Split(kVocab, 2));
  const auto scores = scorer.Score({}, {});
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_TRUE(scores->empty());
}

TEST(LogprobScorerTest, ANonFiniteLogitIsAnErrorOnEveryRank) {
  Rows rows = {RandomLogits(kVocab, 1, 1)};
  rows[0][102] = std::numeric_limits<float>::quiet_NaN();
  for (const Scored& scored : ScoreOnAllRanks(rows, {MakeRequest(0, 3, 2)}, Split(kVocab, 3))) {
    EXPECT_EQ(scored.status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(scored.status.message()), HasSubstr("sequence 7, position 20"));
  }
}

}  // namespace
}  // namespace tessera::worker
