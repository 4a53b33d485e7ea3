#include "coordinator/plan/kv_budget.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/simulate/example_models.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::MakeModel;
using tessera::testing::SmolLm2;
using ::testing::HasSubstr;

constexpr int64_t kSmolBytesPerToken = 30 * 3 * 64 * 2 * 2;  // one rank holds all of it, in bfloat16

v1::ShardPlan MustPlan(const v1::ModelDescription& model, const Layout& layout) {
  auto plan = PlanShards(model, layout);
  if (!plan.ok()) ADD_FAILURE() << plan.status();
  return plan.ok() ? *plan : v1::ShardPlan();
}

std::string ErrorOf(const v1::ModelDescription& model, const Layout& layout) {
  auto plan = PlanShards(model, layout);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(plan.status().message());
}

TEST(KvBudgetTest, WithoutABudgetEverySequenceFitsIfAGibibyteAllows) {
  const auto few = MustPlan(SmolLm2(), {.max_model_len = 100, .max_sequences_per_step = 3});
  EXPECT_EQ(few.num_kv_blocks(), 3 * 7);
  EXPECT_EQ(few.max_model_len(), 100);
  const auto many = MustPlan(SmolLm2(), {});
  EXPECT_EQ(many.max_model_len(), 8192);
  EXPECT_EQ(many.num_kv_blocks(), kDefaultKvBytes / (16 * kSmolBytesPerToken));
}

TEST(KvBudgetTest, OneLongSequenceMayTakeMoreThanTheDefault) {
  const int length = 60'000;  // 2.8 GB
  auto model = SmolLm2();
  model.mutable_architecture()->set_max_positions(length);
  const auto plan = MustPlan(model, {.max_model_len = length});
  EXPECT_EQ(plan.num_kv_blocks(), length / 16);
}

TEST(KvBudgetTest, ALengthThatNeedsMoreThanFourGibibytesIsRefusedOrCapped) {
  auto model = SmolLm2();
  model.mutable_architecture()->set_max_positions(1'000'000);
  const int64_t held = kMaxDefaultKvBytes / (16 * kSmolBytesPerToken) * 16;
  const std::string error = ErrorOf(model, {.max_model_len = 1'000'000});
  EXPECT_THAT(error, HasSubstr("--max-model-len is 1000000; expected 2 .. " + std::to_string(held) +
                               " (4294 MB of KV cache on a rank"));
  EXPECT_EQ(MustPlan(model, {}).max_model_len(), held);
  // Split over more ranks it fits.
  EXPECT_EQ(
      MustPlan(model, {.tensor_parallel = 3, .pipeline_parallel = 6, .max_model_len = 1'000'000})
          .max_model_len(),
      1'000'000);
}

TEST(KvBudgetTest, TheRankThatNeedsMostDecides) {
  // Layers 3 and 1: the first stage's blocks are three times as large.
  const Layout layout{.pipeline_parallel = 2, .layer_split = {3, 1}, .kv_bytes_per_rank = 1 << 20};
  const auto model = MakeModel({.num_layers = 4, .num_kv_heads = 4, .head_dim = 32});
  const int64_t block_bytes = 16 * 3 * 4 * 32 * 2 * (model.tensors(0).type() == v1::DATA_TYPE_F32 ? 4 : 2);
  EXPECT_EQ(MustPlan(model, layout).num_kv_blocks(), (1 << 20) / block_bytes);
}

TEST(KvBudgetTest, WhatWeightsLeaveOfTheSmallestGpuIsForBlocks) {
  const auto model = SmolLm2();
  Layout layout{.pipeline_parallel = 2, .layer_split = {15, 15}};
  const auto plan = MustPlan(model, layout);
  const int64_t block_bytes = 16 * kSmolBytesPerToken / 2;
  const int64_t weights = plan.ranks(0).weight_bytes();
  // Half of the first GPU: its weights, ten blocks, and not quite another one.
  layout.gpu_memory_utilization = 0.5;
  layout.free_memory_bytes = {2 * (weights + 11 * block_bytes) - 4, int64_t{1} << 40};
  EXPECT_EQ(MustPlan(model, layout).num_kv_blocks(), 10);
  // Asked for outright, the memory is not looked at.
  layout.kv_bytes_per_rank = 3 * block_bytes;
  EXPECT_EQ(MustPlan(model, layout).num_kv_blocks(), 3);
}

TEST(KvBudgetTest, AGpuWithoutRoomForTheWeightsIsNamed) {
  const Layout layout{.pipeline_parallel = 2,
                      .layer_split = {15, 15},
                      .free_memory_bytes = {int64_t{1} << 40, 9'000'000}};
  EXPECT_THAT(ErrorOf(SmolLm2(), layout),
              HasSubstr("--gpu-memory-utilization is 0.9, of 9 MB free on the GPU of rank 1"));
}

TEST(KvBudgetTest, KeysAndValuesAreKeptAsAskedForOrAsTheWeightsAre) {
  EXPECT_EQ(MustPlan(SmolLm2(), {}).kv_type(), v1::DATA_TYPE_BF16);
  EXPECT_EQ(MustPlan(SmolLm2(), {.kv_type = v1::DATA_TYPE_F32}).kv_type(), v1::DATA_TYPE_F32);
  v1::ModelDescription floats = SmolLm2();
  for (v1::TensorDescription& tensor : *floats.mutable_tensors()) tensor.set_type(v1::DATA_TYPE_F32);
  EXPECT_EQ(MustPlan(floats, {}).kv_type(), v1::DATA_TYPE_F32);
  EXPECT_EQ(MustPlan(floats, {}).ranks(0).kv_bytes_per_token(), 2 * kSmolBytesPerToken);
  EXPECT_EQ(MustPlan(floats, {.kv_type = v1::DATA_TYPE_BF16}).ranks(0).kv_bytes_per_token(),
            kSmolBytesPerToken);
}

TEST(KvBudgetTest, ABudgetBelowOneBlockIsRefused) {
  const int64_t block_bytes = 16 * kSmolBytesPerToken;
  EXPECT_THAT(ErrorOf(SmolLm2(), {.kv_bytes_per_rank = block_bytes - 1}),
              HasSubstr("--kv-cache-memory is " + std::to_string(block_bytes - 1) +
                        "; expected at least " + std::to_string(block_bytes)));
  EXPECT_THAT(ErrorOf(SmolLm2(), {.kv_bytes_per_rank = -1}), HasSubstr("is -1"));
  const auto plan = MustPlan(SmolLm2(), {.kv_bytes_per_rank = block_bytes});
  EXPECT_EQ(plan.num_kv_blocks(), 1);
  EXPECT_EQ(plan.max_model_len(), 16);
}

TEST(KvBudgetTest, ModelLengthBeyondTheModelIsRefused) {
  EXPECT_THAT(ErrorOf(SmolLm2(), {.max_model_len = 8193}),
              HasSubstr("--max-model-len is 8193; expected 2 .. 8192"));
  EXPECT_THAT(ErrorOf(SmolLm2(), {.max_model_len = -1}), HasSubstr("--max-model-len is -1"));
  EXPECT_THAT(ErrorOf(SmolLm2(), {.max_model_len = 1}), HasSubstr("--max-model-len is 1;"));
}

TEST(KvBudgetTest, HugeNumbersDoNotOverflow) {
  const auto model = MakeModel({.num_layers = 100,
                                .num_heads = 1000,
                                .num_kv_heads = 1000,
                                .head_dim = 1'000,
                                .max_positions = 100'000'000});
  // A block of it needs 6.4 GB.
  EXPECT_THAT(ErrorOf(model, {}), HasSubstr("--max-model-len"));
  const auto plan = MustPlan(MakeModel({.num_layers = 1, .num_kv_heads = 1, .head_dim = 2}),
                             {.kv_bytes_per_rank = INT64_MAX});
  EXPECT_EQ(plan.num_kv_blocks(), INT32_MAX / 16);  // slots, not blocks, are counted in int32
}

}  // namespace
}  // namespace tessera::coordinator
