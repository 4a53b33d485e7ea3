// The planner allowed blocks of 4,096 tokens, groups of 65,536 ranks, 2^31 KV blocks, contexts of 10^8
// tokens and steps whose activations no message carries; every worker refused the plan after it had
// started. What the planner accepts now passes the workers' check, to the bound and not beyond it.
#include <string>

#include "coordinator/plan/shard_planner.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/model/check_plan.h"
#include "proto/model/limits.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::testing {
namespace {

using ::testing::HasSubstr;
using coordinator::Layout;
using coordinator::PlanShards;

void ExpectAccepted(const v1::ModelDescription& description, const Layout& layout) {
  const auto plan = PlanShards(description, layout);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const int ranks = layout.tensor_parallel * layout.pipeline_parallel;
  for (const int rank : {0, ranks - 1}) {
    EXPECT_EQ(model::CheckPlan(description, *plan, rank, ranks), absl::OkStatus());
  }
}

void ExpectRefused(const v1::ModelDescription& description, const Layout& layout,
                   const std::string& flag) {
  const auto plan = PlanShards(description, layout);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr(flag));
}

TEST(PlanThatEveryWorkerRefuses, BlocksOfTooManyTokens) {
  ExpectAccepted(SmolLm2(), {.kv_block_tokens = model::kMaxBlockTokens});
  ExpectRefused(SmolLm2(), {.kv_block_tokens = model::kMaxBlockTokens + 1}, "kv_block_tokens is");
}

TEST(PlanThatEveryWorkerRefuses, MoreRanksThanAGroupHas) {
  const auto wide = MakeModel({.num_layers = 64, .num_heads = 128, .num_kv_heads = 1, .head_dim = 2,
                               .ffn_size = 128, .quantized = false});
  ExpectAccepted(wide, {.tensor_parallel = 64, .pipeline_parallel = 64});
  ExpectRefused(wide, {.tensor_parallel = 65, .pipeline_parallel = 64}, "--pipeline-parallel-size");
}

TEST(PlanThatEveryWorkerRefuses, MoreBlocksThanSlotsAreCounted) {
  const auto tiny = MakeModel({.num_layers = 1, .num_kv_heads = 1, .head_dim = 2});
  for (const int block_tokens : {1, 16, 1000}) {
    ExpectAccepted(tiny, {.kv_block_tokens = block_tokens, .kv_bytes_per_rank = INT64_MAX});
  }
}

TEST(PlanThatEveryWorkerRefuses, ContextsThatAreTooLong) {
  const auto endless = MakeModel({.num_layers = 1, .num_kv_heads = 1, .head_dim = 2,
                                  .max_positions = 100'000'000});
  ExpectAccepted(endless, {});
  ExpectAccepted(endless, {.max_model_len = model::kMaxModelLen});
  ExpectRefused(endless, {.max_model_len = model::kMaxModelLen + 1}, "--max-model-len");
}

TEST(PlanThatEveryWorkerRefuses, StepsWhoseActivationsNoMessageCarries) {
  const auto model = SmolLm2();
  const int most = model::MaxTokensPerStep(model.architecture().hidden_size());
  ExpectAccepted(model, {.max_tokens_per_step = most});
  ExpectRefused(model, {.max_tokens_per_step = most + 1}, "--max-num-batched-tokens");
}

}  // namespace
}  // namespace tessera::testing
