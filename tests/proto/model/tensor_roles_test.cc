// The table of roles: which tensors an architecture calls for, and their shapes.
#include "proto/model/tensor_roles.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::model {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using tessera::testing::MakeModel;

std::vector<std::string> Names(const v1::Architecture& arch) {
  std::vector<std::string> names;
  for (const ExpectedTensor& tensor : ExpectedTensors(arch)) names.push_back(tensor.name);
  return names;
}

ExpectedTensor Find(const v1::Architecture& arch, const std::string& name) {
  for (const ExpectedTensor& tensor : ExpectedTensors(arch)) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

// Two layers: of 3 query heads over 1, and of 2 over 2 with another feed-forward.
v1::Architecture TwoKinds() {
  v1::Architecture arch = MakeModel({.num_layers = 2, .hidden_size = 12, .num_heads = 3,
                                     .num_kv_heads = 1, .head_dim = 4, .ffn_size = 10,
                                     .vocab_size = 7, .quantized = false})
                              .architecture();
  v1::LayerConfig& other = *arch.add_layer_kinds();
  other = arch.layer_kinds(0);
  other.mutable_attention()->set_num_heads(2);
  other.mutable_attention()->set_num_kv_heads(2);
  other.mutable_feed_forward()->set_width(5);
  arch.add_layer_kind_of(1);
  arch.add_layer_kind_of(0);
  return arch;
}

TEST(TensorRolesTest, TheSmallestModel) {
  const auto arch = MakeModel({.num_layers = 1}).architecture();
  EXPECT_THAT(Names(arch),
              ElementsAre("token_embedding", "layers.0.attn_norm", "layers.0.wq", "layers.0.wk",
                          "layers.0.wv", "layers.0.wo", "layers.0.ffn_norm", "layers.0.w_gate",
                          "layers.0.w_up", "layers.0.w_down", "output_norm"));
}

TEST(TensorRolesTest, ShapesAreThoseOfTheLayersKind) {
  const v1::Architecture arch = TwoKinds();
  EXPECT_THAT(Find(arch, "layers.0.wq").shape, ElementsAre(8, 12));
  EXPECT_THAT(Find(arch, "layers.0.wk").shape, ElementsAre(8, 12));
  EXPECT_THAT(Find(arch, "layers.0.w_down").shape, ElementsAre(12, 5));
  EXPECT_THAT(Find(arch, "layers.1.wq").shape, ElementsAre(12, 12));
  EXPECT_THAT(Find(arch, "layers.1.wk").shape, ElementsAre(4, 12));
  EXPECT_THAT(Find(arch, "layers.1.w_down").shape, ElementsAre(12, 10));
  EXPECT_THAT(Find(arch, "token_embedding").shape, ElementsAre(7, 12));
}

TEST(TensorRolesTest, NormsBehindStandInsteadOfThoseBefore) {
  auto arch = MakeModel({.num_layers = 1}).architecture();
  arch.mutable_layer_kinds(0)->set_norms(v1::LayerConfig::NORM_PLACEMENT_POST);
  EXPECT_THAT(Names(arch), Contains("layers.0.attn_post_norm"));
  EXPECT_THAT(Names(arch), Contains("layers.0.ffn_post_norm"));
  EXPECT_THAT(Names(arch), Not(Contains("layers.0.attn_norm")));
  EXPECT_THAT(Names(arch), Not(Contains("layers.0.ffn_norm")));
  arch.mutable_layer_kinds(0)->set_norms(v1::LayerConfig::NORM_PLACEMENT_PRE_AND_POST);
  EXPECT_THAT(Names(arch), Contains("layers.0.attn_post_norm"));
  EXPECT_THAT(Names(arch), Contains("layers.0.attn_norm"));
}

// Over all heads together they are cut like the heads; head by head, every rank has them.
TEST(TensorRolesTest, NormsOfQueriesAndKeys) {
  v1::Architecture arch = TwoKinds();
  arch.mutable_layer_kinds(0)->mutable_attention()->set_qk_norm(
      v1::AttentionConfig::QK_NORM_WHOLE_WIDTH);
  arch.mutable_layer_kinds(1)->mutable_attention()->set_qk_norm(
      v1::AttentionConfig::QK_NORM_PER_HEAD);
  EXPECT_THAT(Find(arch, "layers.1.q_norm").shape, ElementsAre(12));
  EXPECT_EQ(Find(arch, "layers.1.q_norm").axis, v1::SHARD_AXIS_Q_HEAD_ROWS);
  EXPECT_THAT(Find(arch, "layers.1.k_norm").shape, ElementsAre(4));
  EXPECT_EQ(Find(arch, "layers.1.k_norm").axis, v1::SHARD_AXIS_KV_HEAD_ROWS);
  EXPECT_THAT(Find(arch, "layers.0.q_norm").shape, ElementsAre(4));
  EXPECT_EQ(Find(arch, "layers.0.q_norm").axis, v1::SHARD_AXIS_REPLICATED);
}

TEST(TensorRolesTest, RoleNames) {
  EXPECT_EQ(RoleName("layers.12.wq"), "wq");
  EXPECT_EQ(RoleName("output"), "output");
}

}  // namespace
}  // namespace tessera::model
