// Cuts as arithmetic, on shapes that nothing divides.
#include "proto/model/slices.h"

#include <string>

#include "gtest/gtest.h"
#include "proto/model/layers.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::model {
namespace {

using tessera::testing::MakeModel;

v1::Range Of(int begin, int end) {
  v1::Range range;
  range.set_begin(begin);
  range.set_end(end);
  return range;
}

// Layers 1 and 2 of four; heads 5 .. 8 of nine over KV heads 1 and 2 of three.
v1::RankShard Shard() {
  v1::RankShard shard;
  *shard.mutable_layers() = Of(1, 3);
  *shard.mutable_vocab() = Of(3, 10);
  v1::KindShard& ranges = *shard.add_kinds();
  *ranges.mutable_q_heads() = Of(5, 9);
  *ranges.mutable_kv_heads() = Of(1, 3);
  *ranges.mutable_ffn() = Of(7, 20);
  return shard;
}

v1::ModelDescription Model() {
  return MakeModel({.num_layers = 4, .hidden_size = 6, .num_heads = 9, .num_kv_heads = 3,
                    .head_dim = 2, .ffn_size = 20, .vocab_size = 10, .quantized = false});
}

const v1::TensorDescription& Find(const v1::ModelDescription& model, const std::string& name) {
  for (const auto& tensor : model.tensors()) {
    if (tensor.name() == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return model.tensors(0);
}

void ExpectCut(const std::string& name, bool columns, int64_t begin, int64_t end, int64_t whole) {
  SCOPED_TRACE(name);
  const v1::ModelDescription model = Model();
  const v1::TensorDescription& tensor = Find(model, name);
  const auto cut = CutOf(tensor, model.architecture(), Shard());
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->columns, columns);
  EXPECT_EQ(cut->begin, begin);
  EXPECT_EQ(cut->end, end);
  EXPECT_EQ(cut->whole, whole);
  EXPECT_EQ(SliceBytes(tensor, model.architecture(), Shard()),
            tensor.resident_bytes() / whole * (end - begin));
}

TEST(SlicesTest, RangesAlongEachAxis) {
  ExpectCut("token_embedding", false, 3, 10, 10);
  ExpectCut("layers.1.wq", false, 10, 18, 18);
  ExpectCut("layers.1.wk", false, 2, 6, 6);
  ExpectCut("layers.1.wo", true, 10, 18, 18);
  ExpectCut("layers.1.w_up", false, 7, 20, 20);
  ExpectCut("layers.1.w_down", true, 7, 20, 20);
}

TEST(SlicesTest, WhatIsReplicatedIsHeldWhole) {
  const v1::ModelDescription model = Model();
  const v1::TensorDescription& norm = Find(model, "layers.1.attn_norm");
  EXPECT_FALSE(CutOf(norm, model.architecture(), Shard()).has_value());
  EXPECT_EQ(SliceBytes(norm, model.architecture(), Shard()), norm.resident_bytes());
}

// A layer of another kind is cut by that kind's ranges.
TEST(SlicesTest, EachKindHasItsOwnRanges) {
  v1::ModelDescription model = Model();
  v1::Architecture& arch = *model.mutable_architecture();
  *arch.add_layer_kinds() = arch.layer_kinds(0);
  for (const int kind : {0, 0, 1, 0}) arch.add_layer_kind_of(kind);
  v1::RankShard shard = Shard();
  *shard.add_kinds() = shard.kinds(0);
  *shard.mutable_kinds(1)->mutable_ffn() = Of(0, 3);
  EXPECT_EQ(CutOf(Find(model, "layers.1.w_up"), arch, shard)->end, 20);
  EXPECT_EQ(CutOf(Find(model, "layers.2.w_up"), arch, shard)->end, 3);
  EXPECT_EQ(LayersOfKind(arch, shard.layers(), 1), 1);
  EXPECT_EQ(LayersOfKind(arch, Of(0, 2), 1), 0);
}

TEST(SlicesTest, StagesHoldTheirLayersAndEnds) {
  v1::ModelDescription model = Model();
  v1::Architecture& arch = *model.mutable_architecture();
  v1::RankShard shard = Shard();
  EXPECT_FALSE(StageHolds(Find(model, "layers.0.wq"), arch, shard));
  EXPECT_TRUE(StageHolds(Find(model, "layers.2.wq"), arch, shard));
  EXPECT_FALSE(StageHolds(Find(model, "layers.3.wq"), arch, shard));
  EXPECT_FALSE(StageHolds(Find(model, "token_embedding"), arch, shard));
  shard.set_has_output_head(true);
  EXPECT_TRUE(StageHolds(Find(model, "output_norm"), arch, shard));
  EXPECT_TRUE(StageHolds(Find(model, "token_embedding"), arch, shard));  // its output head
  arch.set_tied_embeddings(false);
  EXPECT_FALSE(StageHolds(Find(model, "token_embedding"), arch, shard));
  shard.set_has_embedding(true);
  EXPECT_TRUE(StageHolds(Find(model, "token_embedding"), arch, shard));
}

// The scales of F8_E4M3's rows, 4 bytes each, are on every rank that holds columns.
TEST(SlicesTest, RowScalesStayWholeWhereColumnsAreCut) {
  v1::ModelDescription model = Model();
  v1::TensorDescription down = Find(model, "layers.1.w_down");
  down.set_type(v1::DATA_TYPE_F8_E4M3);
  down.set_resident_bytes(6 * 20 + 6 * 4);
  EXPECT_EQ(SliceBytes(down, model.architecture(), Shard()), 6 * 13 + 6 * 4);
}

TEST(SlicesTest, KvHeadsThatQueryHeadsRead) {
  const v1::AttentionConfig attention = Model().architecture().layer_kinds(0).attention();
  const auto expect = [&](v1::Range q_heads, int begin, int end) {
    const v1::Range kv = KvHeadsOf(q_heads, attention);
    EXPECT_EQ(kv.begin(), begin);
    EXPECT_EQ(kv.end(), end);
  };
  expect(Of(0, 1), 0, 1);
  expect(Of(0, 5), 0, 2);
  expect(Of(5, 9), 1, 3);
  expect(Of(3, 6), 1, 2);
}

}  // namespace
}  // namespace tessera::model
