// CheckDescription: a valid description with one thing wrong is refused by name.
#include "proto/model/check_description.h"

#include <functional>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/simulate/example_models.h"
#include "proto/model/limits.h"

namespace tessera::model {
namespace {

using tessera::testing::AddTensor;
using tessera::testing::MakeModel;
using tessera::testing::SmolLm2;
using ::testing::HasSubstr;

v1::ModelDescription Full() {
  return MakeModel({.tied_embeddings = false, .qkv_bias = true, .qk_norm = true});
}

v1::TensorDescription* Find(v1::ModelDescription* model, const std::string& name) {
  for (auto& tensor : *model->mutable_tensors()) {
    if (tensor.name() == name) return &tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return model->mutable_tensors(0);
}

TEST(CheckDescriptionTest, AcceptsValidOnes) {
  EXPECT_EQ(CheckDescription(SmolLm2()), absl::OkStatus());
  EXPECT_EQ(CheckDescription(Full()), absl::OkStatus());
  EXPECT_EQ(CheckDescription(MakeModel({.ffn_size = 100, .quantized = false})),
            absl::OkStatus());
}

struct Mutation {
  const char* what;  // in the message
  std::function<void(v1::ModelDescription*)> apply;
};

void ExpectRefused(const v1::ModelDescription& valid, const std::vector<Mutation>& mutations) {
  for (const Mutation& mutation : mutations) {
    v1::ModelDescription model = valid;
    mutation.apply(&model);
    const absl::Status status = CheckDescription(model);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << mutation.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(mutation.what));
  }
}

#define SET_ARCH(field, value)                                                                 \
  {                                                                                            \
    "architecture." #field " is " #value,                                                      \
        [](v1::ModelDescription* model) { model->mutable_architecture()->set_##field(value); } \
  }

v1::AttentionConfig* Attention(v1::ModelDescription* model) {
  return model->mutable_architecture()->mutable_layer_kinds(0)->mutable_attention();
}

#define SET_ATTENTION(field, value)                                             \
  {                                                                             \
    "architecture.layer_kinds[0].attention." #field " is " #value,              \
        [](v1::ModelDescription* model) { Attention(model)->set_##field(value); } \
  }

v1::FeedForwardConfig* FeedForward(v1::ModelDescription* model) {
  return model->mutable_architecture()->mutable_layer_kinds(0)->mutable_feed_forward();
}

#define SET_FEED_FORWARD(field, value)                                 \
  {                                                                    \
    "architecture.layer_kinds[0].feed_forward." #field " is " #value,  \
        [](v1::ModelDescription* model) { FeedForward(model)->set_##field(value); } \
  }

TEST(CheckDescriptionTest, RefusesArchitectureNumbersOutOfBounds) {
  ExpectRefused(Full(), {
                            SET_ARCH(num_layers, 0),        SET_ARCH(num_layers, -1),
                            SET_ARCH(num_layers, 4097),    SET_ARCH(hidden_size, 0),
                            SET_ARCH(hidden_size, -64),     SET_ARCH(hidden_size, 1048577),
                            SET_ATTENTION(num_heads, 0),         SET_ATTENTION(num_heads, 65537),
                            SET_ATTENTION(num_kv_heads, 0),      SET_ATTENTION(num_kv_heads, 9),
                            SET_ATTENTION(num_kv_heads, 3),      SET_ATTENTION(head_dim, 0),
                            SET_ATTENTION(head_dim, 33),         SET_ATTENTION(head_dim, 2147483647),
                            SET_FEED_FORWARD(width, 0),          SET_FEED_FORWARD(width, 2147483647),
                            SET_ARCH(vocab_size, 0),        SET_ARCH(vocab_size, 4194305),
                            SET_ARCH(max_positions, 0),     SET_ARCH(max_positions, 2147483647),
                            SET_ATTENTION(sliding_window, -1),   SET_FEED_FORWARD(granularity, 0),
                            SET_FEED_FORWARD(granularity, 257),
                        });
  ExpectRefused(Full(), {{"num_heads * head_dim is", [](v1::ModelDescription* model) {
                            Attention(model)->set_num_heads(65536);
                            Attention(model)->set_head_dim(65536);
                          }}});
}

TEST(CheckDescriptionTest, RefusesFloatsThatAreNotNumbers) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1.0f}) {
    ExpectRefused(
        Full(),
        {
            {"rms_norm_eps", [&](auto* m) { m->mutable_architecture()->set_rms_norm_eps(bad); }},
            {"rope.theta", [&](auto* m) { Attention(m)->mutable_rope()->set_theta(bad); }},
        });
  }
  ExpectRefused(
      Full(), {{"rope.theta is 0", [](auto* m) { Attention(m)->mutable_rope()->set_theta(0); }}});
}

// What the messages can say and no decoder does, each by its name.
TEST(CheckDescriptionTest, WhatNoDecoderDoesIsUnimplementedByName) {
  const std::vector<Mutation> mutations = {
      {"attention.output_bias", [](auto* m) { Attention(m)->set_output_bias(true); }},
      {"attention.logit_soft_cap", [](auto* m) { Attention(m)->set_logit_soft_cap(50); }},
      {"attention.sinks", [](auto* m) { Attention(m)->set_sinks(true); }},
      {"attention.qk_norm",
       [](auto* m) { Attention(m)->set_qk_norm(static_cast<v1::AttentionConfig::QkNorm>(7)); }},
      {"feed_forward.kind",
       [](auto* m) { FeedForward(m)->set_kind(v1::FeedForwardConfig::KIND_EXPERTS); }},
      {"feed_forward.activation",
       [](auto* m) { FeedForward(m)->set_activation(v1::FeedForwardConfig::ACTIVATION_GELU); }},
      {"feed_forward.bias", [](auto* m) { FeedForward(m)->set_bias(true); }},
      {"layer_kinds[0].norms",
       [](auto* m) {
         m->mutable_architecture()->mutable_layer_kinds(0)->set_norms(
             v1::LayerConfig::NORM_PLACEMENT_PRE_AND_POST);
       }},
  };
  for (const Mutation& mutation : mutations) {
    v1::ModelDescription model = Full();
    mutation.apply(&model);
    const absl::Status status = CheckDescription(model);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << mutation.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(mutation.what));
  }
}

TEST(CheckDescriptionTest, EveryLayerIsOfAKindThatThereIs) {
  const auto arch = [](v1::ModelDescription* m) { return m->mutable_architecture(); };
  ExpectRefused(
      Full(),
      {
          {"layer_kinds (their number) is 0", [&](auto* m) { arch(m)->clear_layer_kinds(); }},
          {"layer_kind_of (their number) is 1", [&](auto* m) { arch(m)->add_layer_kind_of(0); }},
          {"layer_kind_of is 1; expected 0 .. 0",
           [&](auto* m) {
             for (const int kind : {0, 0, 1, 0}) arch(m)->add_layer_kind_of(kind);
           }},
          {"layer_kind_of is -1",
           [&](auto* m) {
             for (const int kind : {0, -1, 0, 0}) arch(m)->add_layer_kind_of(kind);
           }},
          {"layer_kinds[0].norms is 0", [&](auto* m) { arch(m)->mutable_layer_kinds(0)->clear_norms(); }},
          {"layer_kinds[1].attention.num_heads is 0", [&](auto* m) { arch(m)->add_layer_kinds(); }},
          {"residual_multiplier",
           [&](auto* m) { arch(m)->mutable_layer_kinds(0)->set_residual_multiplier(NAN); }},
          {"embedding_multiplier", [&](auto* m) { arch(m)->set_embedding_multiplier(INFINITY); }},
          {"logit_scale", [&](auto* m) { arch(m)->set_logit_scale(NAN); }},
          {"attention.scale", [&](auto* m) { Attention(m)->set_scale(-1); }},
      });
}

v1::RopeScaling* Scaling(v1::ModelDescription* model, v1::RopeScaling::Kind kind) {
  v1::RopeScaling* scaling = Attention(model)->mutable_rope()->mutable_scaling();
  scaling->set_kind(kind);
  scaling->set_factor(8);
  scaling->set_original_max_positions(2048);
  scaling->set_low_freq_factor(1);
  scaling->set_high_freq_factor(4);
  scaling->set_beta_fast(32);
  scaling->set_beta_slow(1);
  return scaling;
}

TEST(CheckDescriptionTest, RopeScalingNeedsItsNumbers) {
  for (const auto kind :
       {v1::RopeScaling::KIND_LINEAR, v1::RopeScaling::KIND_LLAMA3, v1::RopeScaling::KIND_YARN}) {
    auto model = Full();
    v1::RopeScaling* scaling = Scaling(&model, kind);
    EXPECT_EQ(CheckDescription(model), absl::OkStatus());
    scaling->set_factor(0);
    EXPECT_THAT(std::string(CheckDescription(model).message()),
                HasSubstr("rope.scaling.factor is 0"));
  }
  ExpectRefused(
      Full(),
      {
          {"rope.pairing",
           [](auto* m) {
             Attention(m)->mutable_rope()->set_pairing(v1::ROPE_PAIRING_UNSPECIFIED);
           }},
          {"rope.scaling.kind is 17",
           [](auto* m) {
             Attention(m)->mutable_rope()->mutable_scaling()->set_kind(
                 static_cast<v1::RopeScaling::Kind>(17));
           }},
          {"original_max_positions",
           [](auto* m) { Scaling(m, v1::RopeScaling::KIND_YARN)->set_original_max_positions(0); }},
          {"high_freq_factor",
           [](auto* m) { Scaling(m, v1::RopeScaling::KIND_LLAMA3)->set_high_freq_factor(1); }},
          {"low_freq_factor",
           [](auto* m) { Scaling(m, v1::RopeScaling::KIND_LLAMA3)->set_low_freq_factor(-1); }},
          {"beta_fast",
           [](auto* m) {
             Scaling(m, v1::RopeScaling::KIND_YARN)
                 ->set_beta_fast(std::numeric_limits<float>::quiet_NaN());
           }},
          {"frequency_factors (their number) is 0; expected 16",
           [](auto* m) { Scaling(m, v1::RopeScaling::KIND_FREQUENCY_FACTORS); }},
          {"frequency_factors is 0",
           [](auto* m) {
             v1::RopeScaling* scaling = Scaling(m, v1::RopeScaling::KIND_FREQUENCY_FACTORS);
             for (int i = 0; i < 16; ++i) scaling->add_frequency_factors(i == 3 ? 0.0f : 1.0f);
           }},
      });
}

// Each tensor, in each way.
TEST(CheckDescriptionTest, RefusesEveryTensorThatIsWrong) {
  const auto valid = Full();
  for (int i = 0; i < valid.tensors_size(); ++i) {
    const std::string name = valid.tensors(i).name();
    SCOPED_TRACE(name);
    ExpectRefused(
        valid,
        {
            {"has shape", [&](auto* m) { m->mutable_tensors(i)->set_shape(0, 3); }},
            {"has shape", [&](auto* m) { m->mutable_tensors(i)->add_shape(1); }},
            {"has shape ()", [&](auto* m) { m->mutable_tensors(i)->clear_shape(); }},
            {"has shard axis",
             [&](auto* m) { m->mutable_tensors(i)->set_axis(v1::SHARD_AXIS_UNSPECIFIED); }},
            {"is of layer 77", [&](auto* m) { m->mutable_tensors(i)->set_layer(77); }},
            {"has unknown type",
             [&](auto* m) { m->mutable_tensors(i)->set_type(static_cast<v1::DataType>(99)); }},
            {"occupies 0 bytes", [&](auto* m) { m->mutable_tensors(i)->set_resident_bytes(0); }},
            {"occupies -1 bytes", [&](auto* m) { m->mutable_tensors(i)->set_resident_bytes(-1); }},
            {"occupies", [&](auto* m) { m->mutable_tensors(i)->set_resident_bytes(INT64_MAX); }},
            {"is missing", [&](auto* m) { m->mutable_tensors()->DeleteSubrange(i, 1); }},
            {"twice", [&](auto* m) { *m->add_tensors() = m->tensors(i); }},
            {"is missing", [&](auto* m) { m->mutable_tensors(i)->set_name("layers.0.wx"); }},
        });
    v1::ModelDescription lacking = valid;
    lacking.mutable_tensors()->DeleteSubrange(i, 1);
    EXPECT_THAT(std::string(CheckDescription(lacking).message()), HasSubstr(name));
  }
}

TEST(CheckDescriptionTest, RefusesTensorsThatTheArchitectureDoesNotCallFor) {
  auto model = SmolLm2();
  AddTensor("layers.0.bq", {576}, v1::SHARD_AXIS_Q_HEAD_ROWS, 0, true, &model);
  EXPECT_THAT(std::string(CheckDescription(model).message()),
              HasSubstr("layers.0.bq is no tensor of this architecture"));
  auto tied = SmolLm2();
  AddTensor("output", {49152, 576}, v1::SHARD_AXIS_VOCAB_ROWS, -1, true, &tied);
  EXPECT_THAT(std::string(CheckDescription(tied).message()), HasSubstr("output is no tensor"));
}

TEST(CheckDescriptionTest, NamesExpectedAndActualShape) {
  auto model = SmolLm2();
  Find(&model, "layers.3.wk")->set_shape(0, 576);
  EXPECT_EQ(CheckDescription(model).message(),
            "layers.3.wk has shape (576, 576); expected (192, 576)");
}

}  // namespace
}  // namespace tessera::model
