#include "worker/files/hf/config.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/ffn_granularity.h"
#include "worker/files/hf/rope.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 30;

// What a family has besides the numbers, and transformers' defaults where they differ.
struct Family {
  const char* architecture;
  const char* name;
  std::optional<int> default_kv_heads;  // nullopt: as many as query heads
  std::optional<int> default_head_dim;  // nullopt: hidden size / heads
  int default_max_positions;
  bool always_qkv_bias;
  bool qk_norm;
};

constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", std::nullopt, std::nullopt, 2048, false, false},
    {"MistralForCausalLM", "mistral", 8, std::nullopt, 131072, false, false},
    {"Qwen2ForCausalLM", "qwen2", 32, std::nullopt, 32768, true, false},
    {"Qwen3ForCausalLM", "qwen3", 32, 128, 32768, false, true},
};

absl::StatusOr<const Family*> FindFamily(const ConfigReader& read) {
  std::vector<std::string> supported;
  for (const Family& family : kFamilies) supported.push_back(family.architecture);
  const std::string list = absl::StrJoin(supported, ", ");

  const Json* architectures = read.Member("architectures");
  if (architectures != nullptr && architectures->is_array() && architectures->size() == 1 &&
      architectures->front().is_string()) {
    const auto& name = architectures->front().get_ref<const std::string&>();
    for (const Family& family : kFamilies) {
      if (name == family.architecture) return &family;
    }
    return UnsupportedError(read.where(), absl::StrCat("architecture ", Printable(name),
                                                       "; supported: ", list));
  }
  return FileError(read.where(),
                   absl::StrCat("architectures: expected one of ", list, ", found ",
                                architectures ? PrintableJson(*architectures) : "nothing"));
}

// Of quantized folders, those whose tensors say all that is to be known: F8_E4M3 beside its scales.
absl::Status RefuseQuantization(const ConfigReader& read) {
  const Json* config = read.Member("quantization_config");
  if (config == nullptr) return absl::OkStatus();
  const auto is = [config](const char* key, const char* value) {
    const Json* found = config->is_object() ? FindMember(*config, key) : nullptr;
    return found != nullptr && *found == value;
  };
  const bool fp8 = is("quant_method", "fp8") && FindMember(*config, "weight_block_size") == nullptr;
  const bool compressed =
      is("quant_method", "compressed-tensors") && is("format", "float-quantized");
  if (fp8 || compressed) return absl::OkStatus();
  return UnsupportedError(read.where(),
                          "quantization_config; supported in a folder: F32, F16, BF16, and "
                          "F8_E4M3 with a scale per row or matrix (quant_method fp8, or "
                          "compressed-tensors with format float-quantized)");
}

// Keys whose other values would change the arithmetic into something not implemented.
absl::Status RefuseUnsupported(const ConfigReader& read, const Family& family) {
  TESSERA_ASSIGN_OR_RETURN(const auto activation, read.OptionalString("hidden_act"));
  if (activation && *activation != "silu") {
    return UnsupportedError(read.where(), absl::StrCat("hidden_act ", Printable(*activation),
                                                       "; supported: silu"));
  }
  TESSERA_ASSIGN_OR_RETURN(const bool mlp_bias, read.BoolOr("mlp_bias", false));
  if (mlp_bias) return UnsupportedError(read.where(), "mlp_bias true; supported: false");
  // For Llama and Qwen3 it puts a bias on the output projection too; the others ignore the key.
  TESSERA_ASSIGN_OR_RETURN(const bool attention_bias, read.BoolOr("attention_bias", false));
  const bool heeds_attention_bias = absl::string_view(family.name) == "llama" || family.qk_norm;
  if (attention_bias && heeds_attention_bias) {
    return UnsupportedError(read.where(),
                            "attention_bias true (a bias on o_proj); supported: false");
  }
  return RefuseQuantization(read);
}

// Qwen's window holds for the layers from max_window_layers on, unless layer_types says which.
absl::StatusOr<int> QwenSlidingWindow(const ConfigReader& read, int64_t num_layers) {
  TESSERA_ASSIGN_OR_RETURN(const bool used, read.BoolOr("use_sliding_window", false));
  if (!used) return 0;
  if (read.HasKey("sliding_window") && read.Member("sliding_window") == nullptr) return 0;
  TESSERA_ASSIGN_OR_RETURN(const int64_t window, read.IntOr("sliding_window", 1, kMaxSize, 4096));
  TESSERA_ASSIGN_OR_RETURN(const int64_t full_layers,
                           read.IntOr("max_window_layers", 0, kMaxSize, 28));
  int64_t sliding = num_layers - std::min(num_layers, full_layers);
  if (const Json* types = read.Member("layer_types")) {
    sliding = std::count(types->begin(), types->end(), Json("sliding_attention"));
  }
  if (sliding == 0) return 0;
  if (sliding == num_layers) return static_cast<int>(window);
  return UnsupportedError(read.where(),
                          absl::StrCat("a sliding window in ", sliding, " of ", num_layers,
                                       " layers; supported: in all or none"));
}

absl::StatusOr<int> SlidingWindow(const ConfigReader& read, const Family& family,
                                  int64_t num_layers) {
  const absl::string_view name = family.name;
  if (name == "llama") return 0;
  if (name != "mistral") return QwenSlidingWindow(read, num_layers);
  if (read.HasKey("sliding_window") && read.Member("sliding_window") == nullptr) return 0;
  TESSERA_ASSIGN_OR_RETURN(const int64_t window, read.IntOr("sliding_window", 1, kMaxSize, 4096));
  return static_cast<int>(window);
}

absl::StatusOr<int64_t> NumKvHeads(const ConfigReader& read, const Family& family,
                                   int64_t num_heads) {
  const char* key = "num_key_value_heads";
  const bool is_null = read.HasKey(key) && read.Member(key) == nullptr;
  const int64_t absent = is_null ? num_heads : family.default_kv_heads.value_or(num_heads);
  return read.IntOr(key, 1, kMaxSize, absent);
}

absl::StatusOr<int64_t> HeadDim(const ConfigReader& read, const Family& family,
                                int64_t hidden_size, int64_t num_heads) {
  TESSERA_ASSIGN_OR_RETURN(const auto head_dim, read.OptionalInt("head_dim", 1, kMaxSize));
  if (head_dim) return *head_dim;
  if (family.default_head_dim) return *family.default_head_dim;
  if (hidden_size % num_heads != 0) {
    return FileError(read.where(), absl::StrCat("hidden_size: expected a multiple of the ",
                                                num_heads, " heads or a head_dim, found ",
                                                hidden_size));
  }
  return hidden_size / num_heads;
}

}  // namespace

absl::StatusOr<v1::Architecture> ParseHfConfig(const std::string& path, const Json& config) {
  const ConfigReader read(path, config);
  TESSERA_ASSIGN_OR_RETURN(const Family* family, FindFamily(read));
  TESSERA_RETURN_IF_ERROR(RefuseUnsupported(read, *family));

  TESSERA_ASSIGN_OR_RETURN(const int64_t layers, read.Int("num_hidden_layers", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(const int64_t hidden, read.Int("hidden_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(const int64_t heads, read.Int("num_attention_heads", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(const int64_t kv_heads, NumKvHeads(read, *family, heads));
  TESSERA_ASSIGN_OR_RETURN(const int64_t head_dim, HeadDim(read, *family, hidden, heads));
  TESSERA_ASSIGN_OR_RETURN(const int64_t ffn, read.Int("intermediate_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(const int64_t vocab, read.Int("vocab_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t positions,
      read.IntOr("max_position_embeddings", 1, kMaxSize, family->default_max_positions));
  TESSERA_ASSIGN_OR_RETURN(const double eps, read.NumberOr("rms_norm_eps", 0, 1, 1e-6));
  TESSERA_ASSIGN_OR_RETURN(const bool tied, read.BoolOr("tie_word_embeddings", false));
  TESSERA_ASSIGN_OR_RETURN(const int window, SlidingWindow(read, *family, layers));

  v1::Architecture arch;
  arch.set_family(family->name);
  arch.set_num_layers(static_cast<int>(layers));
  arch.set_hidden_size(static_cast<int>(hidden));
  arch.set_vocab_size(static_cast<int>(vocab));
  arch.set_max_positions(static_cast<int>(positions));
  arch.set_rms_norm_eps(static_cast<float>(eps));
  arch.set_tied_embeddings(tied);

  v1::LayerConfig& layer = *arch.add_layer_kinds();
  layer.set_norms(v1::LayerConfig::NORM_PLACEMENT_PRE);
  v1::AttentionConfig& attention = *layer.mutable_attention();
  attention.set_num_heads(static_cast<int>(heads));
  attention.set_num_kv_heads(static_cast<int>(kv_heads));
  attention.set_head_dim(static_cast<int>(head_dim));
  attention.set_sliding_window(window);
  attention.set_qkv_bias(family->always_qkv_bias);
  if (family->qk_norm) attention.set_qk_norm(v1::AttentionConfig::QK_NORM_PER_HEAD);
  attention.mutable_rope()->set_pairing(v1::ROPE_PAIRING_HALF_SPLIT);
  TESSERA_RETURN_IF_ERROR(ParseHfRope(read, arch.max_positions(), attention.mutable_rope()));
  v1::FeedForwardConfig& feed_forward = *layer.mutable_feed_forward();
  feed_forward.set_kind(v1::FeedForwardConfig::KIND_GATED);
  feed_forward.set_activation(v1::FeedForwardConfig::ACTIVATION_SILU);
  feed_forward.set_width(static_cast<int>(ffn));
  feed_forward.set_granularity(FfnGranularity(ffn, heads, 1));
  return arch;
}

}  // namespace tessera::worker
