#include "benchmarks/serving/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace tessera::benchmarks {
namespace {

int Words(const std::string& text) {
  return text.empty() ? 0 : 1 + static_cast<int>(std::count(text.begin(), text.end(), ' '));
}

PromptSource Create(const Workload& workload, uint64_t seed, double tokens_per_word) {
  auto source = PromptSource::Create(workload, seed, tokens_per_word);
  EXPECT_TRUE(source.ok()) << source.status();
  return *std::move(source);
}

TEST(PromptSource, MakesAsManyWordsAsGiveTheTokens) {
  Workload workload;
  workload.prompt_tokens = "fixed:90";
  workload.output_tokens = "fixed:12";
  const Turn turn = Create(workload, 1, 1.5).MakeTurn(Phase::kMeasured, 0, 0);
  EXPECT_EQ(Words(turn.text), 60);
  EXPECT_EQ(turn.prompt_tokens, 90);
  EXPECT_EQ(turn.output_tokens, 12);
  EXPECT_EQ(turn.prefix, "");
  workload.prompt_tokens = "fixed:1";
  EXPECT_EQ(Words(Create(workload, 1, 9.0).MakeTurn(Phase::kMeasured, 0, 0).text), 1);
}

TEST(PromptSource, TheSameSeedGivesTheSameTextsInAnyOrder) {
  Workload workload;
  workload.prompt_tokens = "uniform:5-40";
  const PromptSource a = Create(workload, 7, 1.0), b = Create(workload, 7, 1.0);
  const std::string later = a.MakeTurn(Phase::kMeasured, 9, 1).text;
  EXPECT_EQ(b.MakeTurn(Phase::kMeasured, 3, 0).text, a.MakeTurn(Phase::kMeasured, 3, 0).text);
  EXPECT_EQ(b.MakeTurn(Phase::kMeasured, 9, 1).text, later);
  EXPECT_NE(Create(workload, 8, 1.0).MakeTurn(Phase::kMeasured, 9, 1).text, later);
}

TEST(PromptSource, NothingIsSharedWithoutAPrefix) {
  const PromptSource source = Create(Workload(), 7, 1.0);
  std::set<std::string> texts;
  for (Phase phase : {Phase::kWarmup, Phase::kMeasured}) {
    for (int i = 0; i < 100; ++i) texts.insert(source.MakeTurn(phase, i, 0).text.substr(0, 40));
  }
  EXPECT_EQ(texts.size(), 200u);
}

TEST(PromptSource, PrefixesGoRoundAndAreTheWarmUpsToo) {
  Workload workload;
  workload.shared_prefix_tokens = 50;
  workload.num_prefixes = 3;
  const PromptSource source = Create(workload, 7, 1.0);
  std::set<std::string> prefixes;
  for (int i = 0; i < 9; ++i) prefixes.insert(source.MakeTurn(Phase::kMeasured, i, 0).prefix);
  EXPECT_EQ(prefixes.size(), 3u);
  const Turn turn = source.MakeTurn(Phase::kWarmup, 4, 0);
  EXPECT_EQ(turn.prefix, source.MakeTurn(Phase::kMeasured, 1, 0).prefix);
  EXPECT_EQ(Words(turn.prefix), 50);
  EXPECT_EQ(turn.prompt_tokens, 50 + 128);
  EXPECT_EQ(source.MakeTurn(Phase::kMeasured, 4, 1).prefix, "");

  Workload other = workload;  // another tenant's: does the server keep their caches apart?
  other.name = "other";
  const Turn others = Create(other, 7, 1.0).MakeTurn(Phase::kMeasured, 1, 0);
  EXPECT_EQ(others.prefix, turn.prefix);
  EXPECT_NE(others.text, source.MakeTurn(Phase::kMeasured, 1, 0).text);
}

TEST(CalibrationText, HoldsAsManyWordsAsItSays) {
  EXPECT_EQ(Words(CalibrationText()), CalibrationWords());
  EXPECT_GT(CalibrationWords(), 200);
}

}  // namespace
}  // namespace tessera::benchmarks
