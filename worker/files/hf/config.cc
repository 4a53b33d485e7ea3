#include "worker/files/hf/config.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/families.h"
#include "worker/files/file_errors.h"
#include "worker/files/hf/rope.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 30;

absl::StatusOr<const Family*> FindFamily(const ConfigReader& read) {
  const Json* architectures = read.Member("architectures");
  if (architectures != nullptr && architectures->is_array() && architectures->size() == 1 &&
      architectures->front().is_string()) {
    return FindFamilyOf(Format::kHuggingFace, read.where(),
                        architectures->front().get_ref<const std::string&>());
  }
  return FileError(read.where(),
                   absl::StrCat("architectures: expected one of ", FamiliesOf(Format::kHuggingFace),
                                ", found ",
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
  TESSERA_ASSIGN_OR_RETURN(const bool attention_bias, read.BoolOr("attention_bias", false));
  if (attention_bias && family.heeds_attention_bias) {
    return UnsupportedError(read.where(),
                            "attention_bias true (a bias on o_proj); supported: false");
  }
  return RefuseQuantization(read);
}

// An array of one value per layer; null where the key is absent.
absl::StatusOr<const Json*> PerLayer(const ConfigReader& read, const char* key, int64_t layers) {
  const Json* values = read.Member(key);
  if (values == nullptr) return nullptr;
  if (!values->is_array() || static_cast<int64_t>(values->size()) != layers) {
    return FileError(read.where(), absl::StrCat(key, ": expected an array of ", layers,
                                                ", one per layer, found ",
                                                PrintableJson(*values)));
  }
  return values;
}

// SmolLM3: 1 where a layer has rotary embedding, in spite of the key's name.
absl::Status ReadRotary(const ConfigReader& read, const Family& family,
                        std::vector<LayerVariation>& layers) {
  if (family.rotary != RotaryRule::kSmolLm3) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(
      const Json* listed,
      PerLayer(read, "no_rope_layers", static_cast<int64_t>(layers.size())));
  TESSERA_ASSIGN_OR_RETURN(const int64_t interval,
                           read.IntOr("no_rope_layer_interval", 1, kMaxSize, 4));
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].rotary = static_cast<int64_t>(i + 1) % interval != 0;
    if (listed == nullptr) continue;
    if ((*listed)[i] != 0 && (*listed)[i] != 1) {
      return FileError(read.where(), absl::StrCat("no_rope_layers: expected 0 or 1 for layer ", i,
                                                  ", found ", PrintableJson((*listed)[i])));
    }
    layers[i].rotary = (*listed)[i] == 1;
  }
  return absl::OkStatus();
}

absl::Status ReadWindows(const ConfigReader& read, const Family& family,
                         std::vector<LayerVariation>& layers) {
  if (family.windows == WindowRule::kNone) return absl::OkStatus();
  const bool is_null =
      read.HasKey("sliding_window") && read.Member("sliding_window") == nullptr;
  const bool absent = !read.HasKey("sliding_window") && family.default_window == 0;
  if (family.windows != WindowRule::kAll) {
    TESSERA_ASSIGN_OR_RETURN(const bool used, read.BoolOr("use_sliding_window", false));
    if (!used) return absl::OkStatus();
  }
  if (is_null || absent) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(const int64_t window,
                           read.IntOr("sliding_window", 1, kMaxSize, family.default_window));
  TESSERA_ASSIGN_OR_RETURN(const int64_t full_layers,
                           read.IntOr("max_window_layers", 0, kMaxSize, 28));
  const Json* types = nullptr;
  if (family.windows != WindowRule::kAll) {
    TESSERA_ASSIGN_OR_RETURN(
        types, PerLayer(read, "layer_types", static_cast<int64_t>(layers.size())));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    bool slides = true;
    if (types != nullptr) {
      slides = (*types)[i] == "sliding_attention";
      if (!slides && (*types)[i] != "full_attention") {
        return UnsupportedError(read.where(), absl::StrCat("layer_types: ",
                                                           PrintableJson((*types)[i]),
                                                           "; supported: full_attention, "
                                                           "sliding_attention"));
      }
    } else if (family.windows == WindowRule::kQwen) {
      slides = static_cast<int64_t>(i) >= full_layers;
    } else if (family.windows == WindowRule::kSmolLm3) {
      slides = !layers[i].rotary;
    }
    if (slides) layers[i].sliding_window = static_cast<int>(window);
  }
  return absl::OkStatus();
}

absl::Status ReadMultipliers(const ConfigReader& read, ModelNumbers& numbers) {
  TESSERA_ASSIGN_OR_RETURN(numbers.embedding_multiplier,
                           read.NumberOr("embedding_multiplier", 1e-9, 1e9, 1));
  TESSERA_ASSIGN_OR_RETURN(numbers.attention_scale,
                           read.NumberOr("attention_multiplier", 1e-9, 1e9, 1));
  TESSERA_ASSIGN_OR_RETURN(numbers.residual_multiplier,
                           read.NumberOr("residual_multiplier", 1e-9, 1e9, 1));
  TESSERA_ASSIGN_OR_RETURN(const double divisor, read.NumberOr("logits_scaling", 1e-9, 1e9, 1));
  numbers.logit_scale = 1 / divisor;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> NumKvHeads(const ConfigReader& read, const Family& family,
                                   int64_t num_heads) {
  const char* key = "num_key_value_heads";
  const bool is_null = read.HasKey(key) && read.Member(key) == nullptr;
  const bool as_many = is_null || family.default_kv_heads == 0;
  return read.IntOr(key, 1, kMaxSize, as_many ? num_heads : family.default_kv_heads);
}

absl::StatusOr<int64_t> HeadDim(const ConfigReader& read, const Family& family,
                                int64_t hidden_size, int64_t num_heads) {
  TESSERA_ASSIGN_OR_RETURN(const auto head_dim, read.OptionalInt("head_dim", 1, kMaxSize));
  if (head_dim) return *head_dim;
  if (family.default_head_dim > 0) return family.default_head_dim;
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

  ModelNumbers numbers;
  TESSERA_ASSIGN_OR_RETURN(numbers.layers, read.Int("num_hidden_layers", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(numbers.hidden, read.Int("hidden_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(numbers.heads, read.Int("num_attention_heads", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(numbers.kv_heads, NumKvHeads(read, *family, numbers.heads));
  TESSERA_ASSIGN_OR_RETURN(numbers.head_dim,
                           HeadDim(read, *family, numbers.hidden, numbers.heads));
  TESSERA_ASSIGN_OR_RETURN(numbers.ffn, read.Int("intermediate_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(numbers.vocab, read.Int("vocab_size", 1, kMaxSize));
  TESSERA_ASSIGN_OR_RETURN(
      numbers.max_positions,
      read.IntOr("max_position_embeddings", 1, kMaxSize, family->default_max_positions));
  TESSERA_ASSIGN_OR_RETURN(numbers.rms_norm_eps,
                           read.NumberOr("rms_norm_eps", 0, 1, family->default_rms_norm_eps));
  TESSERA_ASSIGN_OR_RETURN(numbers.tied_embeddings,
                           read.BoolOr("tie_word_embeddings", family->default_tied));
  numbers.qkv_bias = family->qkv_bias;
  numbers.variations = DefaultVariations(*family, numbers.layers);
  TESSERA_RETURN_IF_ERROR(ReadRotary(read, *family, numbers.variations));
  TESSERA_RETURN_IF_ERROR(ReadWindows(read, *family, numbers.variations));
  if (family->multipliers) {
    TESSERA_RETURN_IF_ERROR(ReadMultipliers(read, numbers));
  }
  TESSERA_ASSIGN_OR_RETURN(numbers.rope, ParseHfRope(read, *family, numbers));
  return MakeArchitecture(*family, numbers);
}

}  // namespace tessera::worker
