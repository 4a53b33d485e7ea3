#include <string>

#include <gtest/gtest.h>

#include "coordinator/plan/format_plan.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::coordinator {
namespace {

TEST(FormatPlanTest, TwoByTwo) {
  const auto model = tessera::testing::SmolLm2();
  const auto plan = PlanShards(model, {.tensor_parallel = 2, .pipeline_parallel = 2});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(FormatPlan(model, *plan), R"(SmolLM2-135M Q4_1: tensor parallel 2 x pipeline parallel 2
 rank  stage      layers  query heads  KV heads     FFN columns      vocabulary rows  weights MB  KV MB/1000 tokens
    0      0   0-16 (17)      0-4 (5)   0-1 (2)     0-735 (736)      0-24575 (24576)        27.9                8.7
    1      0   0-16 (17)      5-8 (4)   1-2 (2)  736-1535 (800)  24576-49151 (24576)        28.3                8.7
    2      1  17-29 (13)      0-4 (5)   0-1 (2)     0-735 (736)      0-24575 (24576)        23.4                6.7
    3      1  17-29 (13)      5-8 (4)   1-2 (2)  736-1535 (800)  24576-49151 (24576)        23.7                6.7
total                 30            9         3            1536                49152       103.4               30.7
KV cache: 7710 blocks of 16 tokens on every rank; up to 8192 tokens in a sequence
)");
}

TEST(FormatPlanTest, StagesInTheMiddleHoldNoVocabulary) {
  const auto model = tessera::testing::MakeModel({.num_layers = 3, .tied_embeddings = false});
  const auto plan = PlanShards(model, {.pipeline_parallel = 3});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string text = FormatPlan(model, *plan);
  EXPECT_NE(text.find("   0      0   0 (1)      0-7 (8)   0-3 (4)  0-255 (256)     0-999 (1000)"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("   1      1   1 (1)      0-7 (8)   0-3 (4)  0-255 (256)                -"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace tessera::coordinator
