// The logits of transformers, an independent implementation, on tiny random checkpoints, from a
// Hugging Face folder and from a GGUF file of the same weights.
#include <algorithm>
#include <ostream>
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

enum class Format { kFolder, kGguf };

struct Checkpoint {
  std::string name;
  Format format;
};
std::string Label(const Checkpoint& checkpoint) {
  return checkpoint.name + (checkpoint.format == Format::kGguf ? "_gguf" : "");
}
void PrintTo(const Checkpoint& checkpoint, std::ostream* out) { *out << Label(checkpoint); }

using CheckpointAndLayout = std::tuple<Checkpoint, std::pair<int, int>>;

class GoldenLogitsTest : public testing::TestWithParam<CheckpointAndLayout> {};

TEST_P(GoldenLogitsTest, EqualThoseOfTransformers) {
  const auto& [checkpoint, layout] = GetParam();
  const auto file = checkpoint.format == Format::kGguf ? OpenTinyGguf(checkpoint.name)
                                                       : OpenTinyModel(checkpoint.name);
  const TinyGolden golden = LoadTinyGolden(checkpoint.name);
  std::vector<GenerationRequest> requests;
  for (const std::vector<int32_t>& prompt : golden.prompts) {
    requests.push_back({.prompt = prompt, .return_logits = true});
  }
  const auto results = Generate(*file, PlanOf(*file, layout.first, layout.second), requests);
  ASSERT_EQ(results.size(), golden.logits.size());
  double worst = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    const double difference = RelativeDifference(results[i].logits, golden.logits[i]);
    EXPECT_LE(difference, 1e-4) << Label(checkpoint) << ", prompt " << i;
    worst = std::max(worst, difference);
  }
  RecordProperty("largest_relative_difference", std::to_string(worst * 1e6) + "e-6");
}

std::string Name(const testing::TestParamInfo<CheckpointAndLayout>& info) {
  const auto& [checkpoint, layout] = info.param;
  return Label(checkpoint) + "_" + std::to_string(layout.first) + "x" +
         std::to_string(layout.second);
}

const auto kLayouts = testing::Values(std::pair{1, 1}, std::pair{3, 1}, std::pair{2, 2});

INSTANTIATE_TEST_SUITE_P(
    Folders, GoldenLogitsTest,
    testing::Combine(testing::Values(Checkpoint{"llama", Format::kFolder},
                                     Checkpoint{"llama_linear", Format::kFolder},
                                     Checkpoint{"mistral", Format::kFolder},
                                     Checkpoint{"mistral_yarn", Format::kFolder},
                                     Checkpoint{"qwen2", Format::kFolder},
                                     Checkpoint{"qwen3", Format::kFolder},
                                     Checkpoint{"qwen3_windows", Format::kFolder},
                                     Checkpoint{"smollm3", Format::kFolder},
                                     Checkpoint{"smollm3_pattern", Format::kFolder},
                                     Checkpoint{"granite", Format::kFolder},
                                     Checkpoint{"olmo2", Format::kFolder},
                                     Checkpoint{"phi3", Format::kFolder},
                                     Checkpoint{"phi3_partial", Format::kFolder}),
                     kLayouts),
    Name);

// A sliding window cannot be written in llama.cpp's llama architecture: no twin of "mistral".
INSTANTIATE_TEST_SUITE_P(GgufTwins, GoldenLogitsTest,
                         testing::Combine(testing::Values(Checkpoint{"llama", Format::kGguf},
                                                          Checkpoint{"llama_linear", Format::kGguf},
                                                          Checkpoint{"mistral_yarn", Format::kGguf},
                                                          Checkpoint{"qwen2", Format::kGguf},
                                                          Checkpoint{"qwen3", Format::kGguf},
                                                          Checkpoint{"smollm3", Format::kGguf},
                                                          Checkpoint{"granite", Format::kGguf},
                                                          Checkpoint{"olmo2", Format::kGguf},
                                                          Checkpoint{"phi3", Format::kGguf}),
                                          kLayouts),
                         Name);

}  // namespace
}  // namespace tessera::worker
