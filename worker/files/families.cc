#include "worker/files/families.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/model/limits.h"
#include "worker/files/ffn_granularity.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {
namespace {

// GGUF's Llama family pairs neighbours in the rotary embedding, and so do those that its converter
// treats as Llamas.
constexpr auto kNeighbours = v1::ROPE_PAIRING_INTERLEAVED;

constexpr TensorName kFusedNames[] = {
    {"wq", "attn_qkv.weight", "self_attn.qkv_proj.weight"},
    {"wk", "attn_qkv.weight", "self_attn.qkv_proj.weight"},
    {"wv", "attn_qkv.weight", "self_attn.qkv_proj.weight"},
    {"w_gate", "ffn_up.weight", "mlp.gate_up_proj.weight"},
    {"w_up", "ffn_up.weight", "mlp.gate_up_proj.weight"},
};

constexpr Family kFamilies[] = {
    {.name = "llama",
     .gguf = "llama",
     .hugging_face = "LlamaForCausalLM",
     .gguf_pairing = kNeighbours,
     .heeds_attention_bias = true},
    {.name = "mistral",
     .hugging_face = "MistralForCausalLM",
     .windows = WindowRule::kAll,
     .default_kv_heads = 8,
     .default_max_positions = 131072,
     .default_window = 4096},
    {.name = "qwen2",
     .gguf = "qwen2",
     .hugging_face = "Qwen2ForCausalLM",
     .qkv_bias = true,
     .windows = WindowRule::kQwen,
     .default_kv_heads = 32,
     .default_max_positions = 32768,
     .default_window = 4096},
    {.name = "qwen3",
     .gguf = "qwen3",
     .hugging_face = "Qwen3ForCausalLM",
     .qk_norm = v1::AttentionConfig::QK_NORM_PER_HEAD,
     .windows = WindowRule::kQwen,
     .default_kv_heads = 32,
     .default_head_dim = 128,
     .default_max_positions = 32768,
     .default_window = 4096,
     .heeds_attention_bias = true},
    {.name = "smollm3",
     .gguf = "smollm3",
     .hugging_face = "SmolLM3ForCausalLM",
     .gguf_pairing = kNeighbours,
     .rotary = RotaryRule::kSmolLm3,
     .windows = WindowRule::kSmolLm3,
     .default_kv_heads = 4,
     .default_max_positions = 32768,
     .default_rope_theta = 2000000,
     .default_tied = true,
     .heeds_attention_bias = true},
    {.name = "granite",
     .gguf = "granite",
     .hugging_face = "GraniteForCausalLM",
     .gguf_pairing = kNeighbours,
     .multipliers = true,
     .heeds_attention_bias = true},
    {.name = "olmo2",
     .gguf = "olmo2",
     .hugging_face = "Olmo2ForCausalLM",
     .norms = v1::LayerConfig::NORM_PLACEMENT_POST,
     .qk_norm = v1::AttentionConfig::QK_NORM_WHOLE_WIDTH,
     .default_rms_norm_eps = 1e-5,
     .heeds_attention_bias = true},
    {.name = "phi3",
     .gguf = "phi3",
     .hugging_face = "Phi3ForCausalLM",
     .partial_rotary = true,
     .windows = WindowRule::kAll,
     .names = kFusedNames,
     .default_max_positions = 4096,
     .default_rms_norm_eps = 1e-5,
     .only_longrope = true},
};

const char* NameIn(Format format, const Family& family) {
  return format == Format::kGguf ? family.gguf : family.hugging_face;
}

bool Same(const LayerVariation& a, const LayerVariation& b) {
  return a.sliding_window == b.sliding_window && a.rotary == b.rotary;
}

v1::LayerConfig MakeKind(const Family& family, const ModelNumbers& numbers,
                         const LayerVariation& variation) {
  v1::LayerConfig kind;
  kind.set_norms(family.norms);
  kind.set_residual_multiplier(static_cast<float>(numbers.residual_multiplier));
  v1::AttentionConfig& attention = *kind.mutable_attention();
  attention.set_num_heads(static_cast<int>(numbers.heads));
  attention.set_num_kv_heads(static_cast<int>(numbers.kv_heads));
  attention.set_head_dim(static_cast<int>(numbers.head_dim));
  attention.set_sliding_window(variation.sliding_window);
  if (variation.rotary) *attention.mutable_rope() = numbers.rope;
  attention.set_qk_norm(family.qk_norm);
  attention.set_qkv_bias(numbers.qkv_bias);
  attention.set_scale(static_cast<float>(numbers.attention_scale));
  v1::FeedForwardConfig& feed_forward = *kind.mutable_feed_forward();
  feed_forward.set_kind(v1::FeedForwardConfig::KIND_GATED);
  feed_forward.set_activation(v1::FeedForwardConfig::ACTIVATION_SILU);
  feed_forward.set_width(static_cast<int>(numbers.ffn));
  feed_forward.set_granularity(FfnGranularity(numbers.ffn, numbers.heads, numbers.ffn_block));
  return kind;
}

}  // namespace

std::string FamiliesOf(Format format) {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) {
    if (NameIn(format, family) != nullptr) names.emplace_back(NameIn(format, family));
  }
  return absl::StrJoin(names, ", ");
}

absl::StatusOr<const Family*> FindFamilyOf(Format format, absl::string_view where,
                                           absl::string_view name) {
  for (const Family& family : kFamilies) {
    const char* const here = NameIn(format, family);
    if (here != nullptr && name == here) return &family;
  }
  return UnsupportedError(where, absl::StrCat("architecture ", Printable(name),
                                              "; supported: ", FamiliesOf(format)));
}

const Family* FindFamilyNamed(absl::string_view name) {
  for (const Family& family : kFamilies) {
    if (name == family.name) return &family;
  }
  return nullptr;
}

std::vector<LayerVariation> DefaultVariations(const Family& family, int64_t layers) {
  // Counts that no model has are refused when the numbers are checked; no memory is taken for them.
  if (layers > model::kMaxLayers) return {LayerVariation()};
  std::vector<LayerVariation> variations(static_cast<size_t>(layers));
  if (family.rotary == RotaryRule::kSmolLm3) {
    for (size_t i = 0; i < variations.size(); ++i) variations[i].rotary = (i + 1) % 4 != 0;
  }
  return variations;
}

v1::Architecture MakeArchitecture(const Family& family, const ModelNumbers& numbers) {
  v1::Architecture arch;
  arch.set_family(family.name);
  arch.set_num_layers(static_cast<int>(numbers.layers));
  arch.set_hidden_size(static_cast<int>(numbers.hidden));
  arch.set_vocab_size(static_cast<int>(numbers.vocab));
  arch.set_max_positions(static_cast<int>(numbers.max_positions));
  arch.set_rms_norm_eps(static_cast<float>(numbers.rms_norm_eps));
  arch.set_tied_embeddings(numbers.tied_embeddings);
  arch.set_embedding_multiplier(static_cast<float>(numbers.embedding_multiplier));
  arch.set_logit_scale(static_cast<float>(numbers.logit_scale));

  std::vector<LayerVariation> kinds;
  for (const LayerVariation& variation : numbers.variations) {
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const LayerVariation& kind) {
      return Same(kind, variation);
    });
    arch.add_layer_kind_of(static_cast<int>(known - kinds.begin()));
    if (known == kinds.end()) kinds.push_back(variation);
  }
  if (kinds.size() == 1) arch.clear_layer_kind_of();
  for (const LayerVariation& kind : kinds) {
    *arch.add_layer_kinds() = MakeKind(family, numbers, kind);
  }
  return arch;
}

}  // namespace tessera::worker
