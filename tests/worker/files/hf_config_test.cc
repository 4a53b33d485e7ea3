// config.json in both generations of keys, transformers' defaults, and what is refused.
#include "worker/files/hf/config.h"

#include <string>

#include "tests/worker/files/test_files.h"
#include "worker/files/json.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

// The sizes of a model plus `rest` (JSON members).
absl::StatusOr<v1::Architecture> Parse(const std::string& architecture, const std::string& rest) {
  const std::string text = "{\"architectures\": [\"" + architecture +
                           "\"], \"hidden_size\": 64, \"num_attention_heads\": 4, "
                           "\"num_hidden_layers\": 4, \"intermediate_size\": 96, "
                           "\"vocab_size\": 100" +
                           (rest.empty() ? "" : ", " + rest) + "}";
  const auto json = ParseJsonObject("config.json", text);
  if (!json.ok()) return json.status();
  return ParseHfConfig("config.json", *json);
}

const v1::AttentionConfig& AttentionOf(const absl::StatusOr<v1::Architecture>& arch) {
  return arch->layer_kinds(0).attention();
}

std::string Refusal(const std::string& architecture, const std::string& rest) {
  const auto parsed = Parse(architecture, rest);
  EXPECT_FALSE(parsed.ok()) << rest;
  return MessageOf(parsed.status());
}

TEST(HfConfig, DefaultsAreThoseOfTransformers) {
  const auto llama = Parse("LlamaForCausalLM", "");
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(AttentionOf(llama).num_kv_heads(), 4);
  EXPECT_EQ(AttentionOf(llama).head_dim(), 16);
  EXPECT_EQ(llama->max_positions(), 2048);
  EXPECT_FLOAT_EQ(llama->rms_norm_eps(), 1e-6f);
  EXPECT_FLOAT_EQ(AttentionOf(llama).rope().theta(), 10000);
  EXPECT_EQ(AttentionOf(llama).rope().scaling().kind(), v1::RopeScaling::KIND_NONE);
  EXPECT_FALSE(llama->tied_embeddings());
  EXPECT_FALSE(AttentionOf(llama).qkv_bias());
  EXPECT_EQ(AttentionOf(llama).sliding_window(), 0);
  EXPECT_EQ(llama->layer_kinds(0).feed_forward().granularity(), 1);

  const auto mistral = Parse("MistralForCausalLM", "");
  ASSERT_TRUE(mistral.ok()) << mistral.status();
  EXPECT_EQ(AttentionOf(mistral).num_kv_heads(), 8);
  EXPECT_EQ(AttentionOf(mistral).sliding_window(), 4096);
  EXPECT_EQ(mistral->max_positions(), 131072);

  const auto qwen2 = Parse("Qwen2ForCausalLM", "\"num_key_value_heads\": 2");
  ASSERT_TRUE(qwen2.ok()) << qwen2.status();
  EXPECT_TRUE(AttentionOf(qwen2).qkv_bias());
  EXPECT_EQ(AttentionOf(qwen2).qk_norm(), v1::AttentionConfig::QK_NORM_NONE);
  EXPECT_EQ(qwen2->max_positions(), 32768);
  EXPECT_EQ(AttentionOf(qwen2).sliding_window(), 0);

  const auto qwen3 = Parse("Qwen3ForCausalLM", "\"num_key_value_heads\": null");
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  EXPECT_EQ(AttentionOf(qwen3).head_dim(), 128);
  EXPECT_EQ(AttentionOf(qwen3).num_kv_heads(), 4);
  EXPECT_EQ(AttentionOf(qwen3).qk_norm(), v1::AttentionConfig::QK_NORM_PER_HEAD);
  EXPECT_FALSE(AttentionOf(qwen3).qkv_bias());
}

TEST(HfConfig, RopeOfBothGenerations) {
  const auto old_llama3 = Parse("LlamaForCausalLM", R"("rope_theta": 500000.0, "rope_scaling":
      {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
       "original_max_position_embeddings": 8192})");
  const auto new_llama3 = Parse("LlamaForCausalLM", R"("rope_parameters":
      {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
       "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  ASSERT_TRUE(old_llama3.ok()) << old_llama3.status();
  ASSERT_TRUE(new_llama3.ok()) << new_llama3.status();
  EXPECT_EQ(old_llama3->SerializeAsString(), new_llama3->SerializeAsString());
  EXPECT_EQ(AttentionOf(new_llama3).rope().scaling().kind(), v1::RopeScaling::KIND_LLAMA3);
  EXPECT_EQ(AttentionOf(new_llama3).rope().scaling().original_max_positions(), 8192);
  EXPECT_FLOAT_EQ(AttentionOf(new_llama3).rope().theta(), 500000);

  const auto linear = Parse("LlamaForCausalLM", R"("rope_scaling": {"type":"linear","factor":2})");
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(AttentionOf(linear).rope().scaling().kind(), v1::RopeScaling::KIND_LINEAR);
  EXPECT_FLOAT_EQ(AttentionOf(linear).rope().scaling().factor(), 2);

  const auto yarn = Parse("Qwen2ForCausalLM", R"("max_position_embeddings": 4096,
      "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024})");
  ASSERT_TRUE(yarn.ok()) << yarn.status();
  EXPECT_EQ(AttentionOf(yarn).rope().scaling().kind(), v1::RopeScaling::KIND_YARN);
  EXPECT_FLOAT_EQ(AttentionOf(yarn).rope().scaling().beta_fast(), 32);
  EXPECT_FLOAT_EQ(AttentionOf(yarn).rope().scaling().beta_slow(), 1);
  EXPECT_EQ(AttentionOf(yarn).rope().scaling().attention_factor(), 0);

  const auto none = Parse("LlamaForCausalLM", R"("rope_scaling": null)");
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(AttentionOf(none).rope().scaling().kind(), v1::RopeScaling::KIND_NONE);
  EXPECT_THAT(Refusal("LlamaForCausalLM", R"("rope_scaling": {"type":"dynamic","factor":2})"),
              HasSubstr("rope type dynamic; supported: default, linear, llama3, yarn"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", R"("rope_scaling": {"type":"linear"})"),
              HasSubstr("config.json: rope_scaling: factor: expected a number"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", R"("rope_scaling": [1])"), HasSubstr("an object"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", R"("rope_parameters": {"full_attention": {}})"),
              HasSubstr("per layer type"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", R"("partial_rotary_factor": 0.5)"),
              HasSubstr("partial_rotary_factor 0.5"));
}

TEST(HfConfig, SlidingWindows) {
  const auto none = Parse("MistralForCausalLM", R"("sliding_window": null)");
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(AttentionOf(none).sliding_window(), 0);
  const auto unused = Parse("Qwen2ForCausalLM", R"("sliding_window": 32)");
  ASSERT_TRUE(unused.ok());
  EXPECT_EQ(AttentionOf(unused).sliding_window(), 0);
  const auto all = Parse("Qwen2ForCausalLM",
                         R"("sliding_window": 32, "use_sliding_window": true, "max_window_layers": 0)");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(AttentionOf(all).sliding_window(), 32);

  // In some layers only: two kinds of layer.
  for (const char* which : {R"("max_window_layers": 3)",
                            R"("layer_types": ["full_attention", "full_attention",
                                               "full_attention", "sliding_attention"])"}) {
    const auto some = Parse("Qwen3ForCausalLM",
                            std::string(R"("sliding_window": 32, "use_sliding_window": true, )") +
                                which);
    ASSERT_TRUE(some.ok()) << some.status();
    EXPECT_THAT(some->layer_kind_of(), ElementsAre(0, 0, 0, 1));
    ASSERT_EQ(some->layer_kinds_size(), 2);
    EXPECT_EQ(some->layer_kinds(0).attention().sliding_window(), 0);
    EXPECT_EQ(some->layer_kinds(1).attention().sliding_window(), 32);
  }
  const std::string used = R"("sliding_window": 32, "use_sliding_window": true, )";
  EXPECT_THAT(Refusal("Qwen3ForCausalLM", used + R"("layer_types": ["full_attention"])"),
              HasSubstr("layer_types: expected an array of 4, one per layer"));
  EXPECT_THAT(Refusal("Qwen3ForCausalLM",
                      used + R"("layer_types": ["full_attention", "chunked_attention",
                                                "full_attention", "full_attention"])"),
              HasSubstr("chunked_attention"));
}

TEST(HfConfig, SmolLm3HasLayersWithoutRotary) {
  const auto every_fourth = Parse("SmolLM3ForCausalLM", "");
  ASSERT_TRUE(every_fourth.ok()) << every_fourth.status();
  EXPECT_THAT(every_fourth->layer_kind_of(), ElementsAre(0, 0, 0, 1));
  EXPECT_FLOAT_EQ(every_fourth->layer_kinds(0).attention().rope().theta(), 2000000);
  EXPECT_FALSE(every_fourth->layer_kinds(1).attention().has_rope());
  EXPECT_TRUE(every_fourth->tied_embeddings());

  const auto interval = Parse("SmolLM3ForCausalLM", R"("no_rope_layer_interval": 2)");
  ASSERT_TRUE(interval.ok()) << interval.status();
  EXPECT_THAT(interval->layer_kind_of(), ElementsAre(0, 1, 0, 1));

  const auto listed = Parse("SmolLM3ForCausalLM", R"("no_rope_layers": [0, 1, 1, 0])");
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_THAT(listed->layer_kind_of(), ElementsAre(0, 1, 1, 0));
  EXPECT_FALSE(listed->layer_kinds(0).attention().has_rope());
  EXPECT_TRUE(listed->layer_kinds(1).attention().has_rope());

  const auto all = Parse("SmolLM3ForCausalLM", R"("no_rope_layers": [1, 1, 1, 1])");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->layer_kinds_size(), 1);
  EXPECT_EQ(all->layer_kind_of_size(), 0);

  EXPECT_THAT(Refusal("SmolLM3ForCausalLM", R"("no_rope_layers": [1, 1])"),
              HasSubstr("no_rope_layers: expected an array of 4, one per layer"));
  EXPECT_THAT(Refusal("SmolLM3ForCausalLM", R"("no_rope_layers": [1, 1, 2, 1])"),
              HasSubstr("no_rope_layers: expected 0 or 1 for layer 2, found 2"));
  EXPECT_THAT(Refusal("SmolLM3ForCausalLM", R"("no_rope_layers": "none")"),
              HasSubstr("no_rope_layers: expected an array"));
}

TEST(HfConfig, GraniteHasMultipliers) {
  const auto granite = Parse("GraniteForCausalLM", R"("embedding_multiplier": 12,
      "attention_multiplier": 0.25, "residual_multiplier": 0.5, "logits_scaling": 8)");
  ASSERT_TRUE(granite.ok()) << granite.status();
  EXPECT_FLOAT_EQ(granite->embedding_multiplier(), 12);
  EXPECT_FLOAT_EQ(granite->logit_scale(), 0.125);
  EXPECT_FLOAT_EQ(AttentionOf(granite).scale(), 0.25);
  EXPECT_FLOAT_EQ(granite->layer_kinds(0).residual_multiplier(), 0.5);
  // Its default for the scores is 1, not that of the others.
  EXPECT_FLOAT_EQ(AttentionOf(Parse("GraniteForCausalLM", "")).scale(), 1);
  EXPECT_EQ(AttentionOf(Parse("LlamaForCausalLM", "\"attention_multiplier\": 7")).scale(), 0);
  EXPECT_THAT(Refusal("GraniteForCausalLM", "\"logits_scaling\": 0"),
              HasSubstr("logits_scaling"));
  EXPECT_THAT(Refusal("GraniteForCausalLM", "\"attention_bias\": true"),
              HasSubstr("attention_bias"));
}

TEST(HfConfig, Olmo2HasItsNormsBehind) {
  const auto olmo2 = Parse("Olmo2ForCausalLM", "");
  ASSERT_TRUE(olmo2.ok()) << olmo2.status();
  EXPECT_EQ(olmo2->layer_kinds(0).norms(), v1::LayerConfig::NORM_PLACEMENT_POST);
  EXPECT_EQ(AttentionOf(olmo2).qk_norm(), v1::AttentionConfig::QK_NORM_WHOLE_WIDTH);
  EXPECT_FLOAT_EQ(olmo2->rms_norm_eps(), 1e-5f);
}

TEST(HfConfig, Phi3TurnsAPartOfEachHead) {
  const auto phi3 = Parse("Phi3ForCausalLM", R"("sliding_window": 2047)");
  ASSERT_TRUE(phi3.ok()) << phi3.status();
  EXPECT_EQ(AttentionOf(phi3).rope().rotary_dim(), 0);
  EXPECT_EQ(AttentionOf(phi3).sliding_window(), 2047);
  EXPECT_EQ(AttentionOf(Parse("Phi3ForCausalLM", "")).sliding_window(), 0);
  for (const char* part : {R"("partial_rotary_factor": 0.75)",
                           R"("rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                                  "partial_rotary_factor": 0.75})"}) {
    const auto partial = Parse("Phi3ForCausalLM", part);
    ASSERT_TRUE(partial.ok()) << partial.status();
    EXPECT_EQ(AttentionOf(partial).rope().rotary_dim(), 12);
  }
  EXPECT_THAT(Refusal("Phi3ForCausalLM", R"("partial_rotary_factor": 1.5)"),
              HasSubstr("partial_rotary_factor 1.5"));
  EXPECT_THAT(Refusal("Phi3ForCausalLM", R"("partial_rotary_factor": 0.2)"),
              HasSubstr("an even number of elements"));
  for (const std::string type : {"longrope", "su", "yarn"}) {
    EXPECT_THAT(Refusal("Phi3ForCausalLM", "\"rope_scaling\": {\"type\": \"" + type + "\"}"),
                HasSubstr("rope type " + type + " (longrope); supported: default"));
  }
}

TEST(HfConfig, Refusals) {
  EXPECT_THAT(Refusal("MixtralForCausalLM", ""),
              HasSubstr("architecture MixtralForCausalLM; supported: LlamaForCausalLM, "
                        "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
                        "SmolLM3ForCausalLM, GraniteForCausalLM, Olmo2ForCausalLM, "
                        "Phi3ForCausalLM"));
  EXPECT_EQ(Parse("MixtralForCausalLM", "").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"attention_bias\": true"), HasSubstr("attention_bias"));
  EXPECT_THAT(Refusal("Qwen3ForCausalLM", "\"attention_bias\": true"), HasSubstr("attention_bias"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"mlp_bias\": true"), HasSubstr("mlp_bias"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"hidden_act\": \"gelu\""), HasSubstr("hidden_act gelu"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"quantization_config\": {}"),
              HasSubstr("quantization_config"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"rms_norm_eps\": \"small\""),
              HasSubstr("rms_norm_eps: expected a number from 0 to 1, found \\\"small\\\""));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"head_dim\": 1e30"), HasSubstr("head_dim"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"num_key_value_heads\": -1"),
              HasSubstr("num_key_value_heads: expected a whole number from 1"));
  EXPECT_THAT(Refusal("LlamaForCausalLM", "\"vocab_size\": 100"), HasSubstr("appears twice"));
  const auto odd = ParseJsonObject("config.json", R"({"architectures": ["LlamaForCausalLM"]})");
  ASSERT_TRUE(odd.ok());
  EXPECT_THAT(MessageOf(ParseHfConfig("config.json", *odd).status()),
              HasSubstr("num_hidden_layers: expected a whole number"));
}

TEST(HfConfig, NumbersMustFitEachOther) {
  const auto check = [](const std::string& rest) {
    const auto arch = Parse("LlamaForCausalLM", rest);
    EXPECT_TRUE(arch.ok()) << arch.status();
    return MessageOf(CheckArchitecture("config.json", *arch));
  };
  EXPECT_EQ(check(""), "");
  EXPECT_THAT(check("\"num_key_value_heads\": 3"), HasSubstr("num_kv_heads is 3; expected a divisor of the 4 query heads"));
  EXPECT_THAT(check("\"num_key_value_heads\": 8"), HasSubstr("num_kv_heads is 8; expected 1 .. 4"));
  EXPECT_THAT(check("\"head_dim\": 15"), HasSubstr("an even number"));
  EXPECT_THAT(check("\"head_dim\": 1000000000"), HasSubstr("head_dim is 1000000000; expected 2 .. 65536"));
  EXPECT_THAT(check("\"rope_theta\": 1"), HasSubstr("rope.theta is 1"));
}

TEST(Json, DeepNestingDoesNotOverflowTheStack) {
  const std::string deep = "{\"a\":" + std::string(5'000'000, '[');
  EXPECT_THAT(MessageOf(ParseJsonObject("x.json", deep).status()), HasSubstr("nested deeper"));
  EXPECT_FALSE(ParseJsonObject("x.json", "[]").ok());
  EXPECT_FALSE(ParseJsonObject("x.json", "").ok());
  EXPECT_FALSE(ParseJsonObject("x.json", "{\"a\":1e999999}").ok());
}

}  // namespace
}  // namespace tessera::worker
