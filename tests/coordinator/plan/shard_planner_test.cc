#include "coordinator/plan/shard_planner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/plan/format_plan.h"
#include "coordinator/simulate/example_models.h"
#include "proto/model/layers.h"
#include "proto/model/slices.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::AddLayer;
using tessera::testing::ExampleModel;
using tessera::testing::MakeModel;
using tessera::testing::SmolLm2;
using model::Size;
using ::testing::AllOf;
using ::testing::HasSubstr;

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

// The ranges of one dimension over the tp_ranks of a stage follow each other and cover all of it.
template <typename GetRange>
void ExpectPartition(const v1::ShardPlan& plan, int pp_stage, int whole, GetRange range_of) {
  int next = 0;
  for (int tp_rank = 0; tp_rank < plan.tensor_parallel_size(); ++tp_rank) {
    const v1::Range& range = range_of(plan.ranks(pp_stage * plan.tensor_parallel_size() + tp_rank));
    ASSERT_EQ(range.begin(), next);
    ASSERT_GT(range.end(), range.begin());
    next = range.end();
  }
  ASSERT_EQ(next, whole);
}

// Exactly the KV heads that some query head of the rank reads.
void ExpectKvHeadsFollow(const v1::Architecture& arch, const v1::RankShard& shard, int kind) {
  const v1::KindShard& ranges = shard.kinds(kind);
  const int group = model::QueryGroup(arch.layer_kinds(kind).attention());
  std::set<int> needed;
  for (int q = ranges.q_heads().begin(); q < ranges.q_heads().end(); ++q) needed.insert(q / group);
  std::set<int> held;
  for (int kv = ranges.kv_heads().begin(); kv < ranges.kv_heads().end(); ++kv) held.insert(kv);
  ASSERT_EQ(held, needed);
}

void ExpectSound(const v1::ModelDescription& model, const v1::ShardPlan& plan) {
  const v1::Architecture& arch = model.architecture();
  const int tp = plan.tensor_parallel_size();
  const int pp = plan.pipeline_parallel_size();
  ASSERT_EQ(plan.ranks_size(), tp * pp);
  int next_layer = 0;
  for (int stage = 0; stage < pp; ++stage) {
    for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) {
      ExpectPartition(plan, stage, arch.layer_kinds(kind).attention().num_heads(),
                      [kind](auto& s) -> auto& { return s.kinds(kind).q_heads(); });
      ExpectPartition(plan, stage, arch.layer_kinds(kind).feed_forward().width(),
                      [kind](auto& s) -> auto& { return s.kinds(kind).ffn(); });
    }
    ExpectPartition(
        plan, stage, arch.vocab_size(), [](auto& s) -> auto& { return s.vocab(); });
    for (int tp_rank = 0; tp_rank < tp; ++tp_rank) {
      const int world_rank = stage * tp + tp_rank;
      const v1::RankShard& shard = plan.ranks(world_rank);
      ASSERT_EQ(shard.world_rank(), world_rank);
      ASSERT_EQ(shard.tp_rank(), tp_rank);
      ASSERT_EQ(shard.pp_stage(), stage);
      ASSERT_EQ(shard.layers().begin(), next_layer);
      ASSERT_GT(Size(shard.layers()), 0);
      ASSERT_EQ(shard.has_embedding(), stage == 0);
      ASSERT_EQ(shard.has_output_head(), stage == pp - 1);
      const int64_t pair_bytes = plan.kv_type() == v1::DATA_TYPE_F32 ? 8 : 4;  // of a key's and a value's element
      int64_t kv_elements = 0;
      for (int layer = shard.layers().begin(); layer < shard.layers().end(); ++layer) {
        kv_elements += Size(model::RangesAt(arch, shard, layer).kv_heads()) *
                       model::LayerAt(arch, layer).attention().head_dim();
      }
      ASSERT_EQ(shard.kv_bytes_per_token(), pair_bytes * kv_elements);
      for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) {
        const int granularity = arch.layer_kinds(kind).feed_forward().granularity();
        ASSERT_EQ(shard.kinds(kind).ffn().begin() % granularity, 0);
        ExpectKvHeadsFollow(arch, shard, kind);
      }
    }
    next_layer = plan.ranks(stage * tp).layers().end();
  }
  ASSERT_EQ(next_layer, arch.num_layers());
}

// What the rank holds of the matrices that all ranks of its stage share.
int64_t LayerBytes(const v1::ModelDescription& model, const v1::RankShard& shard) {
  int64_t bytes = 0;
  for (const auto& tensor : model.tensors()) {
    if (tensor.layer() < 0 || tensor.axis() == v1::SHARD_AXIS_REPLICATED) continue;
    bytes += model::SliceBytes(tensor, model.architecture(), shard);
  }
  return bytes;
}

TEST(ShardPlannerTest, NineHeadsOverOneToNineRanks) {
  const auto model = SmolLm2();
  for (int tp = 1; tp <= 9; ++tp) {
    SCOPED_TRACE(tp);
    ExpectSound(model, MustPlan(model, {.tensor_parallel = tp, .pipeline_parallel = 2}));
  }
}

TEST(ShardPlannerTest, KvHeadsAreRepeatedOnlyWhereAGroupStraddles) {
  const auto plan = MustPlan(SmolLm2(), {.tensor_parallel = 2});
  EXPECT_EQ(plan.ranks(0).kinds(0).q_heads().end(), 5);
  EXPECT_EQ(plan.ranks(0).kinds(0).kv_heads().end(), 2);
  EXPECT_EQ(plan.ranks(1).kinds(0).kv_heads().begin(), 1);
  EXPECT_EQ(plan.ranks(1).kinds(0).kv_heads().end(), 3);
  const auto aligned = MustPlan(SmolLm2(), {.tensor_parallel = 3});
  for (const auto& shard : aligned.ranks()) EXPECT_EQ(Size(shard.kinds(0).kv_heads()), 1);
}

TEST(ShardPlannerTest, TensorSplitByWeight) {
  const auto model = SmolLm2();
  const auto plan = MustPlan(model, {.tensor_parallel = 2, .tensor_split = {3, 1}});
  ExpectSound(model, plan);
  EXPECT_EQ(Size(plan.ranks(0).kinds(0).q_heads()), 7);
  EXPECT_EQ(Size(plan.ranks(0).kinds(0).ffn()), 1152);
  EXPECT_EQ(Size(plan.ranks(0).vocab()), 36864);
}

std::vector<int> FfnSizes(const v1::ShardPlan& plan) {
  std::vector<int> sizes;
  for (const auto& shard : plan.ranks()) sizes.push_back(Size(shard.kinds(0).ffn()));
  return sizes;
}

TEST(ShardPlannerTest, FfnColumnsMakeUpForHeadsThatDoNotDivide) {
  const auto model = SmolLm2();
  // Heads 5, 4; 3, 2, 2, 2, the third rank's of two groups; 2, 2, 2, 2, 1, the second's and the
  // fourth's of two groups; and as they come out even.
  EXPECT_EQ(FfnSizes(MustPlan(model, {.tensor_parallel = 2})), (std::vector<int>{736, 800}));
  EXPECT_EQ(FfnSizes(MustPlan(model, {.tensor_parallel = 4})),
            (std::vector<int>{352, 416, 352, 416}));
  EXPECT_EQ(FfnSizes(MustPlan(model, {.tensor_parallel = 5})),
            (std::vector<int>{320, 256, 320, 288, 352}));
  EXPECT_EQ(FfnSizes(MustPlan(model, {.tensor_parallel = 3})), (std::vector<int>{512, 512, 512}));
  // One head is more than its share: it still gets a granule.
  const auto heady = MakeModel({.num_layers = 1, .hidden_size = 64, .num_heads = 2,
                                .num_kv_heads = 2, .head_dim = 256, .ffn_size = 96});
  EXPECT_EQ(FfnSizes(MustPlan(heady, {.tensor_parallel = 2, .tensor_split = {9, 1}})),
            (std::vector<int>{64, 32}));
}

// The layers' matrices that each rank holds, of its share by the plan's weights.
TEST(ShardPlannerTest, RanksHoldTheirShareOfTheLayers) {
  const auto model = SmolLm2();
  for (int tp = 2; tp <= 6; ++tp) {
    SCOPED_TRACE(tp);
    const auto plan = MustPlan(model, {.tensor_parallel = tp});
    std::vector<int64_t> bytes;
    for (const auto& shard : plan.ranks()) bytes.push_back(LayerBytes(model, shard));
    const auto [least, most] = std::minmax_element(bytes.begin(), bytes.end());
    int64_t granule = 0;  // what one granule of FFN columns weighs
    for (const auto& tensor : model.tensors()) {
      if (tensor.axis() != v1::SHARD_AXIS_FFN_ROWS && tensor.axis() != v1::SHARD_AXIS_FFN_COLS) continue;
      granule += tensor.resident_bytes() * model.architecture().layer_kinds(0).feed_forward().granularity() /
                 model.architecture().layer_kinds(0).feed_forward().width();
    }
    EXPECT_LE(*most - *least, granule);
  }
}

TEST(ShardPlannerTest, FfnIsCutAtGranules) {
  // 48 granules of 32 over 9 ranks, a head each.
  EXPECT_EQ(FfnSizes(MustPlan(SmolLm2(), {.tensor_parallel = 9})),
            (std::vector<int>{192, 192, 192, 160, 160, 160, 160, 160, 160}));
  const auto odd = MakeModel(
      {.num_heads = 3, .num_kv_heads = 3, .ffn_size = 100, .quantized = false});
  const auto odd_plan = MustPlan(odd, {.tensor_parallel = 3});
  ExpectSound(odd, odd_plan);
  EXPECT_EQ(Size(odd_plan.ranks(0).kinds(0).ffn()), 34);
  EXPECT_EQ(Size(odd_plan.ranks(2).kinds(0).ffn()), 33);
}

TEST(ShardPlannerTest, BytesAddUpWhenNothingIsRepeated) {
  for (const bool tied : {true, false}) {
    const auto model =
        MakeModel({.tied_embeddings = tied, .qkv_bias = true, .qk_norm = true, .quantized = true});
    int64_t total = 0;
    int64_t replicated = 0;
    for (const auto& tensor : model.tensors()) {
      total += tensor.resident_bytes();
      if (tensor.axis() == v1::SHARD_AXIS_REPLICATED) replicated += tensor.resident_bytes();
    }
    EXPECT_EQ(MustPlan(model, {}).ranks(0).weight_bytes(), total);
    for (const int tp : {2, 4}) {
      const auto plan = MustPlan(model, {.tensor_parallel = tp});
      int64_t sum = 0;
      for (const auto& shard : plan.ranks()) sum += shard.weight_bytes();
      EXPECT_EQ(sum, total + (tp - 1) * replicated);
    }
  }
}

TEST(ShardPlannerTest, TiedEmbeddingIsHeldByFirstAndLastStage) {
  const auto tied = MakeModel({.tied_embeddings = true});
  const auto untied = MakeModel({.tied_embeddings = false});
  const int64_t embedding = tied.tensors(0).resident_bytes();
  const auto sum = [](const v1::ShardPlan& plan) {
    int64_t bytes = 0;
    for (const auto& shard : plan.ranks()) bytes += shard.weight_bytes();
    return bytes;
  };
  EXPECT_EQ(sum(MustPlan(tied, {.pipeline_parallel = 3})), sum(MustPlan(tied, {})) + embedding);
  EXPECT_EQ(sum(MustPlan(untied, {.pipeline_parallel = 3})), sum(MustPlan(untied, {})));
  EXPECT_EQ(sum(MustPlan(untied, {})), sum(MustPlan(tied, {})) + embedding);
}

TEST(ShardPlannerTest, HalfTheOutputHeadCountsAgainstTheLastStage) {
  // In Q4_1 the head of SmolLM2 weighs as much as eight layers.
  const auto plan = MustPlan(SmolLm2(), {.pipeline_parallel = 2});
  EXPECT_EQ(Size(plan.ranks(0).layers()), 17);
  EXPECT_EQ(Size(plan.ranks(1).layers()), 13);
}

TEST(ShardPlannerTest, LayerSplitIsObeyed) {
  const auto plan = MustPlan(SmolLm2(), {.pipeline_parallel = 3, .layer_split = {16, 1, 13}});
  ExpectSound(SmolLm2(), plan);
  EXPECT_EQ(Size(plan.ranks(0).layers()), 16);
  EXPECT_EQ(Size(plan.ranks(1).layers()), 1);
  EXPECT_EQ(Size(plan.ranks(2).layers()), 13);
}

// Layers 1 and 3 have other heads and another feed-forward than 0, 2 and 4.
v1::ModelDescription TwoKinds() {
  const ExampleModel first = {.num_layers = 5};
  const ExampleModel second = {.num_layers = 5, .num_heads = 6, .num_kv_heads = 2, .ffn_size = 160};
  auto model = MakeModel(first);
  v1::Architecture& arch = *model.mutable_architecture();
  *arch.add_layer_kinds() = MakeModel(second).architecture().layer_kinds(0);
  model.clear_tensors();
  const v1::ModelDescription other = MakeModel(first);
  for (const auto& tensor : other.tensors()) {
    if (tensor.layer() < 0) *model.add_tensors() = tensor;
  }
  for (int layer = 0; layer < 5; ++layer) {
    arch.add_layer_kind_of(layer % 2);
    AddLayer(layer % 2 == 0 ? first : second, layer, &model);
  }
  return model;
}

TEST(ShardPlannerTest, EachKindOfLayerIsSplitByItself) {
  const auto model = TwoKinds();
  for (const int tp : {1, 2, 3, 4, 5}) {
    for (const int pp : {1, 2, 5}) {
      SCOPED_TRACE(absl::StrCat(tp, "x", pp));
      ExpectSound(model, MustPlan(model, {.tensor_parallel = tp, .pipeline_parallel = pp}));
    }
  }
  const auto plan = MustPlan(model, {.tensor_parallel = 3});
  EXPECT_EQ(Size(plan.ranks(2).kinds(0).q_heads()), 2);
  EXPECT_EQ(Size(plan.ranks(2).kinds(1).q_heads()), 2);
  EXPECT_EQ(Size(plan.ranks(1).kinds(1).kv_heads()), 2);  // heads 2 and 3, of two groups
  EXPECT_EQ(plan.ranks(2).kinds(1).ffn().end(), 160);
  // The kind with the fewest granules says how many ranks there may be.
  EXPECT_THAT(ErrorOf(model, {.tensor_parallel = 6}),
              HasSubstr("expected 1 .. 5 (the FFN has 5 granules of 32 columns)"));
}

TEST(ShardPlannerTest, TheMapShowsEachKindsRanges) {
  const auto model = TwoKinds();
  const std::string map = FormatPlan(model, MustPlan(model, {.tensor_parallel = 2}));
  EXPECT_THAT(map, HasSubstr("0-3 (4) / 0-2 (3)"));
  EXPECT_THAT(map, HasSubstr("8 / 6"));
  EXPECT_THAT(map, HasSubstr("256 / 160"));
}

TEST(ShardPlannerTest, RandomArchitectures) {
  std::mt19937 random(3);
  const auto draw = [&](int lowest, int highest) {
    return lowest + static_cast<int>(random() % static_cast<unsigned>(highest - lowest + 1));
  };
  for (int round = 0; round < 500; ++round) {
    ExampleModel example;
    example.num_layers = draw(1, 12);
    example.num_kv_heads = draw(1, 6);
    example.num_heads = example.num_kv_heads * draw(1, 7);
    example.head_dim = 2 * draw(1, 40);
    example.hidden_size = draw(1, 200);
    example.quantized = draw(0, 1) == 1;
    example.ffn_size = draw(1, 20) * 32 + (example.quantized ? 0 : draw(0, 31));
    example.vocab_size = draw(50, 3000);
    example.tied_embeddings = draw(0, 1) == 1;
    example.qkv_bias = draw(0, 1) == 1;
    example.qk_norm = draw(0, 1) == 1;
    const auto model = MakeModel(example);
    const int granules = example.ffn_size / model.architecture().layer_kinds(0).feed_forward().granularity();
    Layout layout;
    layout.tensor_parallel = draw(1, std::min(example.num_heads, granules));
    layout.pipeline_parallel = draw(1, example.num_layers);
    if (draw(0, 1) == 1) {
      for (int i = 0; i < layout.tensor_parallel; ++i) layout.tensor_split.push_back(draw(1, 50));
    }
    SCOPED_TRACE(model.architecture().ShortDebugString());
    ExpectSound(model, MustPlan(model, layout));
    if (HasFatalFailure()) return;
  }
}

TEST(ShardPlannerTest, RefusesTensorParallelOutOfRange) {
  const auto model = SmolLm2();
  EXPECT_EQ(ErrorOf(model, {.tensor_parallel = 10}),
            "--tensor-parallel-size is 10; expected 1 .. 9 (the model has 9 query heads)");
  EXPECT_THAT(ErrorOf(model, {.tensor_parallel = 0}), HasSubstr("is 0; expected 1 .. 9"));
  EXPECT_THAT(ErrorOf(model, {.tensor_parallel = -1}), HasSubstr("is -1; expected 1 .. 9"));
  EXPECT_EQ(ErrorOf(MakeModel({.num_heads = 8, .ffn_size = 96}), {.tensor_parallel = 4}),
            "--tensor-parallel-size is 4; expected 1 .. 3 (the FFN has 3 granules of 32 columns)");
  EXPECT_EQ(ErrorOf(MakeModel({.num_heads = 8, .vocab_size = 5}), {.tensor_parallel = 6}),
            "--tensor-parallel-size is 6; expected 1 .. 5 (the vocabulary has 5 rows)");
}

TEST(ShardPlannerTest, RefusesPipelineParallelOutOfRange) {
  EXPECT_EQ(ErrorOf(SmolLm2(), {.pipeline_parallel = 31}),
            "--pipeline-parallel-size is 31; expected 1 .. 30 (the model has 30 layers)");
  EXPECT_THAT(ErrorOf(SmolLm2(), {.pipeline_parallel = 0}), HasSubstr("expected 1 .. 30"));
}

TEST(ShardPlannerTest, RefusesBadSplits) {
  const auto model = SmolLm2();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_THAT(ErrorOf(model, {.tensor_parallel = 2, .tensor_split = {1, 1, 1}}),
              AllOf(HasSubstr("--tensor-split has 3 weights"), HasSubstr("expected 2")));
  for (const double weight : {0.0, -1.0, nan, infinity}) {
    EXPECT_THAT(ErrorOf(model, {.tensor_parallel = 2, .tensor_split = {1, weight}}),
                HasSubstr("--tensor-split has the weight"));
  }
  EXPECT_EQ(ErrorOf(model, {.pipeline_parallel = 2, .layer_split = {16, 15}}),
            "--layer-split is 16,15, which sums to 31; expected the model's 30 layers");
  EXPECT_THAT(ErrorOf(model, {.pipeline_parallel = 2, .layer_split = {30, 0}}),
              HasSubstr("--layer-split gives a stage 0 layers"));
  EXPECT_THAT(ErrorOf(model, {.pipeline_parallel = 2, .layer_split = {31, -1}}),
              HasSubstr("--layer-split gives a stage -1 layers"));
  EXPECT_THAT(ErrorOf(model, {.pipeline_parallel = 2, .layer_split = {10, 10, 10}}),
              HasSubstr("--layer-split has 3 stages; expected 2"));
}

// 70 and 405 billion parameters as Llama 3 has them, and a made-up model of more than 10^12 in F32:
// what the ranks hold is the model, to the byte but for what every rank repeats.
TEST(ShardPlannerTest, HugeModelsDoNotOverflow) {
  const std::vector<ExampleModel> models = {
      {.num_layers = 80, .hidden_size = 8192, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128,
       .ffn_size = 28672, .vocab_size = 128256, .max_positions = 131072, .tied_embeddings = false},
      {.num_layers = 126, .hidden_size = 16384, .num_heads = 128, .num_kv_heads = 8,
       .head_dim = 128, .ffn_size = 53248, .vocab_size = 128256, .max_positions = 131072,
       .tied_embeddings = false},
      {.num_layers = 200, .hidden_size = 32768, .num_heads = 256, .num_kv_heads = 16,
       .head_dim = 128, .ffn_size = 98304, .vocab_size = 300000, .max_positions = 1 << 20,
       .tied_embeddings = false, .quantized = false}};
  for (const ExampleModel& example : models) {
    const auto model = MakeModel(example);
    const auto plan = MustPlan(model, {.tensor_parallel = 8, .pipeline_parallel = 16});
    ASSERT_EQ(plan.ranks_size(), 128);
    double whole = 0, held = 0;
    for (const auto& tensor : model.tensors()) whole += static_cast<double>(tensor.resident_bytes());
    for (const auto& rank : plan.ranks()) {
      EXPECT_GT(rank.weight_bytes(), 0);
      EXPECT_GT(rank.kv_bytes_per_token(), 0);
      held += static_cast<double>(rank.weight_bytes());
    }
    EXPECT_GE(held, whole);
    EXPECT_LT(held, whole * 1.001);
    EXPECT_GT(plan.num_kv_blocks(), 0);
    EXPECT_GT(plan.max_model_len(), 1);
    EXPECT_FALSE(FormatPlan(model, plan).empty());
  }
}

TEST(ShardPlannerTest, RefusesBadStepLimits) {
  const auto model = SmolLm2();
  EXPECT_THAT(ErrorOf(model, {.kv_block_tokens = 0}), HasSubstr("kv_block_tokens is 0"));
  EXPECT_THAT(ErrorOf(model, {.max_tokens_per_step = 0}), HasSubstr("--max-num-batched-tokens"));
  EXPECT_THAT(ErrorOf(model, {.max_sequences_per_step = 0}), HasSubstr("--max-num-seqs is 0"));
}

TEST(ShardPlannerTest, PlansOnlyFromAValidDescription) {
  auto model = SmolLm2();
  model.mutable_architecture()->mutable_layer_kinds(0)->mutable_attention()->set_num_kv_heads(4);
  EXPECT_THAT(ErrorOf(model, {}), HasSubstr("architecture.layer_kinds[0].attention.num_kv_heads is 4"));
}

}  // namespace
}  // namespace tessera::coordinator
