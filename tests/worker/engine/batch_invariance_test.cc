// A request's tokens do not depend on what else is in the step, nor on how its prompt was cut: the
// logits are equal to the last bit.
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

std::vector<int32_t> RandomPrompt(int length, int32_t vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> prompt(length);
  for (int32_t& id : prompt) id = static_cast<int32_t>(random() % vocab_size);
  return prompt;
}

// The request under test first, then `others` of other lengths.
std::vector<GenerationRequest> Requests(int prompt_length, int others, int tokens, int32_t vocab) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i <= others; ++i) {
    const int length = i == 0 ? prompt_length : 1 + (7 * i) % 40;
    requests.push_back({.prompt = RandomPrompt(length, vocab, 100 + i),
                        .max_new_tokens = tokens,
                        .return_logits = i == 0});
  }
  return requests;
}

struct Scenario {
  const char* description;
  int others;
  int prompt_chunk;
};
constexpr Scenario kScenarios[] = {
    {"among 15 others", 15, 512},
    {"prompt in chunks of 1", 0, 1},
    {"prompt in chunks of 16", 0, 16},
    {"among 15 others, in chunks of 16", 15, 16},
    {"among 15 others, in chunks of 1", 15, 1},
};

void ExpectInvariant(const ModelFile& file, const v1::ShardPlan& plan, int prompt_length,
                     int tokens) {
  const int32_t vocab = file.description().architecture().vocab_size();
  const auto alone = Generate(file, plan, Requests(prompt_length, 0, tokens, vocab))[0];
  ASSERT_EQ(alone.tokens.size(), static_cast<size_t>(tokens));
  ASSERT_EQ(alone.logits.size(), static_cast<size_t>(prompt_length + tokens - 1) * vocab);
  for (const Scenario& scenario : kScenarios) {
    SCOPED_TRACE(scenario.description);
    const auto result =
        Generate(file, plan, Requests(prompt_length, scenario.others, tokens, vocab),
                 {.prompt_chunk = scenario.prompt_chunk,
                  .steps_in_flight = plan.pipeline_parallel_size()})[0];
    EXPECT_EQ(result.tokens, alone.tokens);
    EXPECT_TRUE(result.logits == alone.logits) << "the logits are not bitwise equal";
  }
}

TEST(BatchInvarianceTest, TinyLlamaOnOneRank) {
  const auto file = OpenTinyModel("llama");
  ExpectInvariant(*file, PlanOf(*file, 1, 1), 430, 64);
}

TEST(BatchInvarianceTest, TinyLlamaOverTwoByTwo) {
  const auto file = OpenTinyModel("llama");
  ExpectInvariant(*file, PlanOf(*file, 2, 2), 430, 64);
}

TEST(BatchInvarianceTest, SlidingWindowOnOneRank) {
  const auto file = OpenTinyModel("mistral");
  ExpectInvariant(*file, PlanOf(*file, 1, 1), 150, 64);
}

TEST(BatchInvarianceTest, DefaultModelOnOneRank) {
  const auto path = DefaultModelPath();
  if (!path) GTEST_SKIP() << "the default model is missing";
  if (kSanitized) GTEST_SKIP() << "numbers of a whole model: see the release preset";
  const auto file = OpenModel(*path, LoadFormat::kAuto);
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectInvariant(**file, PlanOf(**file, 1, 1), 70, 12);
}

}  // namespace
}  // namespace tessera::worker
