// The logits of transformers, an independent implementation, on tiny random checkpoints.
#include <string>
#include <tuple>

#include "gtest/gtest.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

using ModelAndLayout = std::tuple<std::string, std::pair<int, int>>;

class GoldenLogitsTest : public testing::TestWithParam<ModelAndLayout> {};

TEST_P(GoldenLogitsTest, EqualThoseOfTransformers) {
  const auto& [name, layout] = GetParam();
  const auto file = OpenTinyModel(name);
  const TinyGolden golden = LoadTinyGolden(name);
  std::vector<GenerationRequest> requests;
  for (const std::vector<int32_t>& prompt : golden.prompts) {
    requests.push_back({.prompt = prompt, .return_logits = true});
  }
  const auto results = Generate(*file, PlanOf(*file, layout.first, layout.second), requests);
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_LE(RelativeDifference(results[i].logits, golden.logits[i]), 1e-4)
        << name << ", prompt " << i;
  }
}

std::string Name(const testing::TestParamInfo<ModelAndLayout>& info) {
  const auto& [name, layout] = info.param;
  return name + "_" + std::to_string(layout.first) + "x" + std::to_string(layout.second);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLogitsTest,
                         testing::Combine(testing::Values("llama", "llama_linear", "mistral",
                                                          "mistral_yarn", "qwen2", "qwen3"),
                                          testing::Values(std::pair{1, 1}, std::pair{2, 2})),
                         Name);

}  // namespace
}  // namespace tessera::worker
