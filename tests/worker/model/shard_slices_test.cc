// Slices as arithmetic: over the ranks they cover every tensor exactly once, and bad plans are
// refused.
#include "worker/model/shard_slices.h"

#include <functional>
#include <string>
#include <vector>

#include "coordinator/plan/shard_planner.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/model/check_plan.h"
#include "proto/model/layers.h"

namespace tessera::worker {
namespace {

using model::CheckPlan;
using testing::ElementsAre;
using testing::HasSubstr;

void AddTensor(v1::ModelDescription& model, const std::string& name, int layer, v1::DataType type,
               v1::ShardAxis axis, std::vector<int64_t> shape) {
  v1::TensorDescription& tensor = *model.add_tensors();
  tensor.set_name(layer < 0 ? name : "layers." + std::to_string(layer) + "." + name);
  tensor.set_layer(layer);
  tensor.set_axis(axis);
  tensor.set_type(type);
  int64_t elements = 1;
  for (int64_t dimension : shape) {
    tensor.add_shape(dimension);
    elements *= dimension;
  }
  const bool quantized = type == v1::DATA_TYPE_Q4_1 && shape.size() == 2;
  tensor.set_resident_bytes(type == v1::DATA_TYPE_F8_E4M3 ? elements + 4 * shape[0]
                            : quantized         ? elements / 32 * 20
                                                : elements * 4);
}

struct Sizes {
  int layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
  v1::DataType type;
};

v1::ModelDescription Model(const Sizes& s, bool tied, bool extras) {
  v1::ModelDescription model;
  v1::Architecture& arch = *model.mutable_architecture();
  arch.set_num_layers(s.layers);
  arch.set_hidden_size(s.hidden);
  arch.set_vocab_size(s.vocab);
  arch.set_max_positions(128);
  arch.set_rms_norm_eps(1e-5f);
  arch.set_tied_embeddings(tied);
  v1::LayerConfig& kind = *arch.add_layer_kinds();
  kind.set_norms(v1::LayerConfig::NORM_PLACEMENT_PRE);
  v1::AttentionConfig& attention = *kind.mutable_attention();
  attention.set_num_heads(s.heads);
  attention.set_num_kv_heads(s.kv_heads);
  attention.set_head_dim(s.head_dim);
  attention.mutable_rope()->set_pairing(v1::ROPE_PAIRING_HALF_SPLIT);
  attention.mutable_rope()->set_theta(10000);
  attention.set_qkv_bias(extras);
  if (extras) attention.set_qk_norm(v1::AttentionConfig::QK_NORM_PER_HEAD);
  v1::FeedForwardConfig& feed_forward = *kind.mutable_feed_forward();
  feed_forward.set_kind(v1::FeedForwardConfig::KIND_GATED);
  feed_forward.set_activation(v1::FeedForwardConfig::ACTIVATION_SILU);
  feed_forward.set_width(s.ffn);
  feed_forward.set_granularity(s.type == v1::DATA_TYPE_F32 ? 1 : 32);
  const int64_t h = s.hidden, q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  AddTensor(model, "token_embedding", -1, s.type, v1::SHARD_AXIS_VOCAB_ROWS, {s.vocab, h});
  AddTensor(model, "output_norm", -1, v1::DATA_TYPE_F32, v1::SHARD_AXIS_REPLICATED, {h});
  if (!tied) AddTensor(model, "output", -1, s.type, v1::SHARD_AXIS_VOCAB_ROWS, {s.vocab, h});
  for (int i = 0; i < s.layers; ++i) {
    AddTensor(model, "attn_norm", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_REPLICATED, {h});
    AddTensor(model, "wq", i, s.type, v1::SHARD_AXIS_Q_HEAD_ROWS, {q, h});
    AddTensor(model, "wk", i, s.type, v1::SHARD_AXIS_KV_HEAD_ROWS, {kv, h});
    AddTensor(model, "wv", i, s.type, v1::SHARD_AXIS_KV_HEAD_ROWS, {kv, h});
    if (extras) {
      AddTensor(model, "bq", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_Q_HEAD_ROWS, {q});
      AddTensor(model, "bk", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_KV_HEAD_ROWS, {kv});
      AddTensor(model, "bv", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_KV_HEAD_ROWS, {kv});
      AddTensor(model, "q_norm", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_REPLICATED, {s.head_dim});
      AddTensor(model, "k_norm", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_REPLICATED, {s.head_dim});
    }
    AddTensor(model, "wo", i, s.type, v1::SHARD_AXIS_Q_HEAD_COLS, {h, q});
    AddTensor(model, "ffn_norm", i, v1::DATA_TYPE_F32, v1::SHARD_AXIS_REPLICATED, {h});
    AddTensor(model, "w_gate", i, s.type, v1::SHARD_AXIS_FFN_ROWS, {s.ffn, h});
    AddTensor(model, "w_up", i, s.type, v1::SHARD_AXIS_FFN_ROWS, {s.ffn, h});
    AddTensor(model, "w_down", i, s.type, v1::SHARD_AXIS_FFN_COLS, {h, s.ffn});
  }
  return model;
}

v1::ShardPlan PlanOf(const v1::ModelDescription& model, int tp, int pp) {
  coordinator::Layout layout;
  layout.tensor_parallel = tp;
  layout.pipeline_parallel = pp;
  auto plan = coordinator::PlanShards(model, layout);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : v1::ShardPlan();
}

// How many ranks hold each element of the tensor.
std::vector<int> Holders(const v1::ModelDescription& model, const v1::ShardPlan& plan,
                         const v1::TensorDescription& tensor) {
  const int64_t cols = tensor.shape(tensor.shape_size() - 1);
  const int64_t rows = tensor.shape_size() == 1 ? 1 : tensor.shape(0);
  std::vector<int> holders(rows * cols, 0);
  for (const v1::RankShard& shard : plan.ranks()) {
    const auto slice = SliceOf(shard, tensor, model.architecture());
    if (!slice) continue;
    EXPECT_LE(slice->row_end, rows);
    EXPECT_LE(slice->col_end, cols);
    EXPECT_EQ(slice->bytes, kernels::RowBytes(slice->dtype, slice->cols()) * slice->rows());
    for (int64_t row = slice->row_begin; row < slice->row_end; ++row) {
      for (int64_t col = slice->col_begin; col < slice->col_end; ++col) ++holders[row * cols + col];
    }
  }
  return holders;
}

// Tensors that are cut without overlap; KV heads may be held twice, by neighbours.
bool CutCleanly(const v1::TensorDescription& tensor) {
  return tensor.axis() != v1::SHARD_AXIS_REPLICATED && tensor.axis() != v1::SHARD_AXIS_KV_HEAD_ROWS;
}

void ExpectPartition(const v1::ModelDescription& model, int tp, int pp) {
  SCOPED_TRACE(std::to_string(tp) + "x" + std::to_string(pp));
  const v1::ShardPlan plan = PlanOf(model, tp, pp);
  for (const v1::TensorDescription& tensor : model.tensors()) {
    // The tied embedding serves twice: on the first stage and, as the head, on the last.
    const bool twice =
        tensor.name() == "token_embedding" && pp > 1 && model.architecture().tied_embeddings();
    for (int held : Holders(model, plan, tensor)) {
      if (tensor.axis() == v1::SHARD_AXIS_REPLICATED) {
        ASSERT_EQ(held, tp) << tensor.name();
      } else if (CutCleanly(tensor)) {
        ASSERT_EQ(held, twice ? 2 : 1) << tensor.name();
      } else {
        ASSERT_GE(held, 1) << tensor.name();
      }
    }
  }
  for (const v1::RankShard& shard : plan.ranks()) {
    EXPECT_TRUE(CheckPlan(model, plan, shard.world_rank(), tp * pp).ok());
    EXPECT_EQ(ShardBytes(shard, model), shard.weight_bytes()) << shard.world_rank();
    for (int32_t kv_head : KvHeadOf(shard.kinds(0), model.architecture().layer_kinds(0).attention())) {
      EXPECT_GE(kv_head, 0);
      EXPECT_LT(kv_head, model::Size(shard.kinds(0).kv_heads()));
    }
  }
}

constexpr Sizes kFloat = {4, 36, 9, 3, 4, 50, 101, v1::DATA_TYPE_F32};
constexpr Sizes kQuantized = {3, 288, 9, 3, 32, 416, 1003, v1::DATA_TYPE_Q4_1};
constexpr Sizes kEightBit = {3, 48, 9, 3, 4, 416, 101, v1::DATA_TYPE_F8_E4M3};

TEST(ShardSlicesTest, EveryElementIsHeldOnce) {
  for (const Sizes& sizes : {kFloat, kQuantized, kEightBit}) {
    for (bool tied : {false, true}) {
      for (int tp : {1, 2, 3, 4, 5, 7, 9}) {
        for (int pp : {1, 2, 3}) ExpectPartition(Model(sizes, tied, !tied), tp, pp);
      }
    }
  }
}

// The plan's bytes are those that are loaded (ExpectPartition): a row's scale is on both ranks that
// hold columns of it, on one that holds rows once.
TEST(ShardSlicesTest, EveryRankHoldsTheScalesOfItsColumns) {
  const v1::ModelDescription model = Model(kEightBit, false, false);
  const auto held = [&](int tp) {
    int64_t bytes = 0;
    const v1::ShardPlan plan = PlanOf(model, tp, 1);
    for (const v1::RankShard& shard : plan.ranks()) bytes += shard.weight_bytes();
    return bytes;
  };
  const int64_t norms = 4 * kEightBit.hidden * (2 * kEightBit.layers + 1);
  const int64_t scales = 4 * kEightBit.hidden * 2 * kEightBit.layers;  // of wo and w_down
  EXPECT_EQ(held(3) - held(1), 2 * (norms + scales));
}

TEST(ShardSlicesTest, QuantizedCutsFallOnBlocks) {
  const v1::ModelDescription model = Model(kQuantized, true, false);
  for (int tp : {2, 4, 5}) {
    const v1::ShardPlan plan = PlanOf(model, tp, 1);
    for (const v1::RankShard& shard : plan.ranks()) {
      for (const v1::TensorDescription& tensor : model.tensors()) {
        const auto slice = SliceOf(shard, tensor, model.architecture());
        if (!slice || slice->dtype != kernels::DType::kQ4_1) continue;
        EXPECT_EQ(slice->col_begin % 32, 0) << tensor.name();
        EXPECT_EQ(slice->cols() % 32, 0) << tensor.name();
      }
    }
  }
}

TEST(ShardSlicesTest, NineHeadsOverThreeKvHeadsOverTwoRanks) {
  const v1::ModelDescription model = Model(kFloat, false, true);
  v1::ShardPlan plan = PlanOf(model, 2, 1);
  // 5 + 4 query heads: the second KV head serves both ranks.
  for (v1::RankShard& shard : *plan.mutable_ranks()) {
    const bool first = shard.tp_rank() == 0;
    shard.mutable_kinds(0)->mutable_q_heads()->set_begin(first ? 0 : 5);
    shard.mutable_kinds(0)->mutable_q_heads()->set_end(first ? 5 : 9);
    shard.mutable_kinds(0)->mutable_kv_heads()->set_begin(first ? 0 : 1);
    shard.mutable_kinds(0)->mutable_kv_heads()->set_end(first ? 2 : 3);
  }
  ASSERT_TRUE(CheckPlan(model, plan, 1, 2).ok()) << CheckPlan(model, plan, 1, 2);
  const v1::AttentionConfig& attention = model.architecture().layer_kinds(0).attention();
  EXPECT_THAT(KvHeadOf(plan.ranks(0).kinds(0), attention), ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(KvHeadOf(plan.ranks(1).kinds(0), attention), ElementsAre(0, 1, 1, 1));
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (tensor.layer() != 0) continue;
    const auto slice = SliceOf(plan.ranks(1), tensor, model.architecture());
    ASSERT_TRUE(slice.has_value());
    if (tensor.axis() == v1::SHARD_AXIS_KV_HEAD_ROWS && tensor.shape_size() == 2) {
      EXPECT_EQ(slice->row_begin, 4);
      EXPECT_EQ(slice->row_end, 12);
    }
    if (tensor.name() == "layers.0.bq") {
      EXPECT_EQ(slice->rows(), 1);
      EXPECT_EQ(slice->col_begin, 20);
      EXPECT_EQ(slice->col_end, 36);
    }
    if (tensor.name() == "layers.0.wo") {
      EXPECT_EQ(slice->rows(), 36);
      EXPECT_EQ(slice->col_begin, 20);
      EXPECT_EQ(slice->bytes, 36u * 16 * 4);
    }
  }
}

struct BadPlan {
  const char* names;
  std::function<void(v1::ShardPlan&)> spoil;
};

TEST(CheckPlanTest, RefusesNamingTheField) {
  const v1::ModelDescription model = Model(kFloat, false, true);
  const v1::ShardPlan good = PlanOf(model, 2, 2);
  ASSERT_TRUE(CheckPlan(model, good, 3, 4).ok());
  const auto rank = [](v1::ShardPlan& plan, int i) { return plan.mutable_ranks(i); };
  const BadPlan cases[] = {
      {"tensor_parallel_size", [](auto& p) { p.set_tensor_parallel_size(0); }},
      {"pipeline_parallel_size", [](auto& p) { p.set_pipeline_parallel_size(-2); }},
      {"ranks in the world", [](auto& p) { p.set_pipeline_parallel_size(1); }},
      {"number of rank shards", [](auto& p) { p.mutable_ranks()->RemoveLast(); }},
      {"kv_block_tokens", [](auto& p) { p.set_kv_block_tokens(0); }},
      {"num_kv_blocks", [](auto& p) { p.set_num_kv_blocks(0); }},
      {"num_kv_blocks", [](auto& p) { p.set_num_kv_blocks(2147483647); }},
      {"kv_type", [](auto& p) { p.set_kv_type(v1::DATA_TYPE_Q4_0); }},
      {"max_model_len", [](auto& p) { p.set_max_model_len(0); }},
      {"max_tokens_per_step", [](auto& p) { p.set_max_tokens_per_step(-1); }},
      {"max_tokens_per_step",  // activations that no message can carry
       [&](auto& p) {
         p.set_max_tokens_per_step((1 << 28) / model.architecture().hidden_size() + 1);
       }},
      {"max_sequences_per_step", [](auto& p) { p.set_max_sequences_per_step(0); }},
      {"rank 1: world_rank", [&](auto& p) { rank(p, 1)->set_world_rank(2); }},
      {"rank 1: tp_rank", [&](auto& p) { rank(p, 1)->set_tp_rank(0); }},
      {"rank 2: pp_stage", [&](auto& p) { rank(p, 2)->set_pp_stage(0); }},
      {"rank 0: has_embedding", [&](auto& p) { rank(p, 0)->set_has_embedding(false); }},
      {"rank 0: has_output_head", [&](auto& p) { rank(p, 0)->set_has_output_head(true); }},
      {"rank 0: layers", [&](auto& p) { rank(p, 0)->mutable_layers()->set_begin(1); }},
      {"rank 1: end of its stage's layers",
       [&](auto& p) { rank(p, 1)->mutable_layers()->set_end(1); }},
      {"rank 3: layers", [&](auto& p) { rank(p, 3)->mutable_layers()->set_end(5); }},
      {"rank 1: q_heads", [&](auto& p) { rank(p, 1)->mutable_kinds(0)->mutable_q_heads()->set_begin(3); }},
      {"stage 0: sum over its ranks of q_heads",
       [&](auto& p) { rank(p, 1)->mutable_kinds(0)->mutable_q_heads()->set_end(8); }},
      {"rank 1: q_heads", [&](auto& p) { rank(p, 1)->mutable_kinds(0)->mutable_q_heads()->set_end(10); }},
      {"rank 0: kv_heads", [&](auto& p) { rank(p, 0)->mutable_kinds(0)->mutable_kv_heads()->set_end(3); }},
      {"rank 1: ffn", [&](auto& p) { rank(p, 1)->mutable_kinds(0)->mutable_ffn()->set_begin(0); }},
      {"rank 1: kinds of layer", [&](auto& p) { rank(p, 1)->clear_kinds(); }},
      {"rank 1: vocab", [&](auto& p) { rank(p, 1)->mutable_vocab()->set_end(102); }},
      {"rank 0: vocab", [&](auto& p) { rank(p, 0)->mutable_vocab()->set_end(0); }},
  };
  for (const BadPlan& bad : cases) {
    v1::ShardPlan plan = good;
    bad.spoil(plan);
    const absl::Status status = CheckPlan(model, plan, 3, 4);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.names;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.names));
  }
}

TEST(CheckPlanTest, RefusesFfnCutsInsideBlocks) {
  const v1::ModelDescription model = Model(kQuantized, false, false);
  v1::ShardPlan plan = PlanOf(model, 2, 1);
  const int32_t cut = plan.ranks(0).kinds(0).ffn().end() + 8;
  plan.mutable_ranks(0)->mutable_kinds(0)->mutable_ffn()->set_end(cut);
  plan.mutable_ranks(1)->mutable_kinds(0)->mutable_ffn()->set_begin(cut);
  EXPECT_THAT(std::string(CheckPlan(model, plan, 0, 2).message()), HasSubstr("multiples of 32"));
}

TEST(CheckPlanTest, RefusesAnotherWorld) {
  const v1::ModelDescription model = Model(kFloat, false, false);
  const v1::ShardPlan plan = PlanOf(model, 2, 2);
  EXPECT_FALSE(CheckPlan(model, plan, 0, 3).ok());
  EXPECT_FALSE(CheckPlan(model, plan, 4, 4).ok());
}

}  // namespace
}  // namespace tessera::worker
