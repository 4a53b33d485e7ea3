// Every layout computes the same model: logits to 1e-4 of the largest, greedy tokens exactly.
#include <string>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/model/layers.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

struct LayoutCase {
  std::string model;
  int tp = 1;
  int pp = 1;
};

std::string Name(const testing::TestParamInfo<LayoutCase>& info) {
  return info.param.model + "_" + std::to_string(info.param.tp) + "x" +
         std::to_string(info.param.pp);
}

void ExpectSame(const std::vector<GenerationResult>& actual,
                const std::vector<GenerationResult>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].tokens, expected[i].tokens) << "prompt " << i;
    EXPECT_LE(RelativeDifference(actual[i].logits, expected[i].logits), 1e-4) << "prompt " << i;
  }
}

class LayoutsTest : public testing::TestWithParam<LayoutCase> {};

TEST_P(LayoutsTest, AgreesWithOneRank) {
  const auto file = OpenTinyModel(GetParam().model);
  const auto requests =
      EightPrompts(file->description().architecture().vocab_size(), 64, /*return_logits=*/true);
  const auto expected = Generate(*file, PlanOf(*file, 1, 1), requests);
  ASSERT_EQ(expected[0].tokens.size(), 64u);

  const v1::ShardPlan plan = PlanOf(*file, GetParam().tp, GetParam().pp);
  ASSERT_EQ(plan.ranks_size(), GetParam().tp * GetParam().pp);
  ExpectSame(Generate(*file, plan, requests, {.steps_in_flight = GetParam().pp}), expected);
}

std::vector<LayoutCase> Cases() {
  std::vector<LayoutCase> cases;
  for (const char* model : {"llama", "qwen2", "qwen3", "mistral", "qwen3_windows",
                            "smollm3_pattern", "granite", "olmo2", "phi3"}) {
    for (auto [tp, pp] : {std::pair{2, 1}, {3, 1}, {4, 1}, {1, 2}, {1, 3}, {2, 2}, {3, 2}}) {
      cases.push_back({model, tp, pp});
    }
  }
  cases.push_back({"llama", 9, 1});  // one query head per rank
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Layouts, LayoutsTest, testing::ValuesIn(Cases()), Name);

TEST(WeightedLayoutsTest, UnevenTensorAndLayerSplitsAgreeWithOneRank) {
  const auto file = OpenTinyModel("llama");
  const auto requests =
      EightPrompts(file->description().architecture().vocab_size(), 16, /*return_logits=*/true);
  coordinator::Layout layout;
  layout.tensor_parallel = 3;
  layout.tensor_split = {5, 3, 1};
  layout.pipeline_parallel = 2;
  layout.layer_split = {2, 1};
  const v1::ShardPlan plan = PlanOf(*file, layout);
  EXPECT_NE(model::Size(plan.ranks(0).kinds(0).q_heads()),
            model::Size(plan.ranks(2).kinds(0).q_heads()));
  ExpectSame(Generate(*file, plan, requests, {.steps_in_flight = 2}),
             Generate(*file, PlanOf(*file, 1, 1), requests));
}

}  // namespace
}  // namespace tessera::worker
