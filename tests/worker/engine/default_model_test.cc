// The default model against an exact dequantized forward pass
// (tests/golden/make_smollm2_golden.py), and its layouts against one rank. Skipped, loudly, without
// the model.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

struct TeacherForced {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> top1;         // the most probable next token, per position
  std::vector<double> next_logprob;  // of the token that comes next; one fewer
  double perplexity = 0;
};

TeacherForced LoadTeacherForced() {
  std::ifstream in(std::string(TESSERA_SOURCE_DIR) + "/tests/golden/smollm2/teacher_forced.json");
  const nlohmann::json json = nlohmann::json::parse(in);
  return {.token_ids = json.at("token_ids"),
          .top1 = json.at("top1"),
          .next_logprob = json.at("next_logprob"),
          .perplexity = json.at("perplexity")};
}

double LogProb(absl::Span<const float> logits, int32_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double mass = 0;
  for (float logit : logits) mass += std::exp(logit - largest);
  return logits[token] - largest - std::log(mass);
}

class DefaultModelTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto path = DefaultModelPath();
    if (!path) GTEST_SKIP() << "the default model is missing";
    auto file = OpenModel(*path, LoadFormat::kAuto);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    golden_ = LoadTeacherForced();
  }

  // What the group thinks of the golden text, teacher-forced in chunks of 128.
  void ExpectGolden(const v1::ShardPlan& plan) {
    if (kSanitized) GTEST_SKIP() << "numbers of a whole model: see the release preset";
    const size_t n = golden_.token_ids.size();
    const int64_t vocab = file_->description().architecture().vocab_size();
    ASSERT_GE(n, 500u);
    const auto results =
        Generate(*file_, plan, {{.prompt = golden_.token_ids, .return_logits = true}},
                 {.prompt_chunk = 128});
    const absl::Span<const float> logits = results[0].logits;
    ASSERT_EQ(logits.size(), n * vocab);
    size_t agree = 0;
    double sum = 0, largest_difference = 0;
    for (size_t i = 0; i < n; ++i) {
      const absl::Span<const float> row = logits.subspan(i * vocab, vocab);
      agree += std::max_element(row.begin(), row.end()) - row.begin() == golden_.top1[i];
      if (i + 1 == n) continue;
      const double logprob = LogProb(row, golden_.token_ids[i + 1]);
      largest_difference =
          std::max(largest_difference, std::abs(logprob - golden_.next_logprob[i]));
      sum += logprob;
    }
    const double perplexity = std::exp(-sum / static_cast<double>(n - 1));
    std::cout << "top-1 agreement " << agree << "/" << n << ", perplexity " << perplexity
              << " against " << golden_.perplexity << ", largest logprob difference "
              << largest_difference << "\n";
    EXPECT_GE(static_cast<double>(agree), 0.98 * static_cast<double>(n));
    EXPECT_NEAR(perplexity / golden_.perplexity, 1.0, 0.005);
  }

  // Eight stretches of the golden text, continued greedily.
  std::vector<GenerationRequest> Stretches() const {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < (kSanitized ? 2 : 8); ++i) {
      const auto begin = golden_.token_ids.begin() + 90 * i;
      requests.push_back({.prompt = std::vector<int32_t>(begin, begin + 9 + 7 * i),
                          .max_new_tokens = kSanitized ? 2 : 32,
                          .return_logits = i < 2});
    }
    return requests;
  }

  void ExpectSameAsOneRank(int tp, int pp) {
    const auto expected = Generate(*file_, PlanOf(*file_, 1, 1), Stretches());
    const auto actual =
        Generate(*file_, PlanOf(*file_, tp, pp), Stretches(), {.steps_in_flight = pp});
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[i].tokens, expected[i].tokens) << "prompt " << i;
      if (!expected[i].logits.empty()) {
        EXPECT_LE(RelativeDifference(actual[i].logits, expected[i].logits), 1e-4);
      }
    }
  }

  std::unique_ptr<ModelFile> file_;
  TeacherForced golden_;
};

TEST_F(DefaultModelTest, AgreesWithTheExactForwardPass) { ExpectGolden(PlanOf(*file_, 1, 1)); }

TEST_F(DefaultModelTest, TwoByTwoAgreesWithTheExactForwardPass) {
  ExpectGolden(PlanOf(*file_, 2, 2));
}

TEST_F(DefaultModelTest, TwoByTwoEqualsOneRank) { ExpectSameAsOneRank(2, 2); }

TEST_F(DefaultModelTest, FourByOneEqualsOneRank) { ExpectSameAsOneRank(4, 1); }

}  // namespace
}  // namespace tessera::worker
