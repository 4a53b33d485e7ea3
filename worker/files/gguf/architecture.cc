#include "worker/files/gguf/architecture.h"

#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/families.h"
#include "worker/files/file_errors.h"
#include "worker/files/gguf/rope.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 30;

// In the order in which ReadMultipliers takes them.
constexpr const char* kMultipliers[] = {"embedding_scale", "residual_scale", "attention.scale",
                                        "logit_scale"};

absl::StatusOr<const Family*> FindFamily(const GgufMetadata& metadata) {
  TESSERA_ASSIGN_OR_RETURN(const auto name, metadata.OptionalString("general.architecture"));
  if (!name) {
    return FileError(metadata.path(), "general.architecture: expected a string, file has nothing");
  }
  return FindFamilyOf(Format::kGguf, metadata.path(), *name);
}

const StoredTensor* FindTensor(const GgufFile& gguf, absl::string_view name) {
  for (const StoredTensor& tensor : gguf.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// Keys whose other values would change the arithmetic into something not implemented.
absl::Status RefuseUnsupported(const GgufFile& gguf, const Family& family,
                               const std::string& prefix) {
  const GgufMetadata& metadata = gguf.metadata;
  TESSERA_ASSIGN_OR_RETURN(const int64_t splits, metadata.IntOr("split.count", 0, 65535, 0));
  if (splits > 1) {
    return UnsupportedError(metadata.path(),
                            absl::StrCat("one of ", splits, " parts of a split model; supported: ",
                                         "one file (gguf-split --merge joins them)"));
  }
  std::vector<const char*> unsupported = {"expert_count", "attention.clamp_kqv",
                                          "attention.max_alibi_bias"};
  if (!family.multipliers) {
    unsupported.insert(unsupported.end(), std::begin(kMultipliers), std::end(kMultipliers));
  }
  for (const char* key : unsupported) {
    TESSERA_ASSIGN_OR_RETURN(const double value,
                             metadata.NumberOr(absl::StrCat(prefix, key), -1e30, 1e30, 0));
    if (value != 0) {
      return UnsupportedError(metadata.path(),
                              absl::StrCat(prefix, key, " ", value, "; supported: none"));
    }
  }
  // Granite's way to say that no layer has rotary embedding.
  TESSERA_ASSIGN_OR_RETURN(const auto rotary,
                           metadata.OptionalBool(prefix + "rope.scaling.finetuned"));
  if (family.multipliers && !rotary.value_or(true)) {
    return UnsupportedError(metadata.path(), absl::StrCat(prefix, "rope.scaling.finetuned false; ",
                                                          "supported: true"));
  }
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (FindTensor(gguf, name) != nullptr) {
      return UnsupportedError(metadata.path(),
                              absl::StrCat(name, ": rope type longrope; supported: none, linear, ",
                                           "yarn"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadMultipliers(const GgufMetadata& metadata, const std::string& prefix,
                             ModelNumbers& numbers) {
  double logit_divisor = 0;
  double* const values[] = {&numbers.embedding_multiplier, &numbers.residual_multiplier,
                            &numbers.attention_scale, &logit_divisor};
  for (size_t i = 0; i < std::size(kMultipliers); ++i) {
    const std::string key = prefix + kMultipliers[i];
    TESSERA_ASSIGN_OR_RETURN(*values[i], metadata.NumberOr(key, 0, 1e9, 0));
    if (*values[i] != 0 && *values[i] < 1e-9) {
      return FileError(metadata.path(), absl::StrCat(key, ": expected 0 or a number from 1e-9 to ",
                                                     "1e9, file has ", *values[i]));
    }
  }
  numbers.logit_scale = logit_divisor == 0 ? 0 : 1 / logit_divisor;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> HeadDim(const GgufMetadata& metadata, const std::string& prefix,
                                int64_t hidden, int64_t heads) {
  TESSERA_ASSIGN_OR_RETURN(const auto key,
                           metadata.OptionalInt(prefix + "attention.key_length", 1, kMaxSize));
  if (!key && hidden % heads != 0) {
    return FileError(metadata.path(),
                     absl::StrCat(prefix, "embedding_length: expected a multiple of the ", heads,
                                  " heads, file has ", hidden));
  }
  const int64_t head_dim = key.value_or(hidden / heads);
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t value_dim,
      metadata.IntOr(prefix + "attention.value_length", 1, kMaxSize, head_dim));
  if (value_dim != head_dim) {
    return UnsupportedError(metadata.path(),
                            absl::StrCat(prefix, "attention.value_length ", value_dim,
                                         "; supported: equal to the key length ", head_dim));
  }
  return head_dim;
}

absl::StatusOr<int64_t> VocabSize(const GgufMetadata& metadata, const std::string& prefix) {
  const std::string key = prefix + "vocab_size";
  TESSERA_ASSIGN_OR_RETURN(const auto size, metadata.OptionalInt(key, 1, kMaxSize));
  if (size) return *size;
  const GgufValue* tokens = metadata.Find("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->type == GgufType::kArray && tokens->count >= 1 &&
      tokens->count <= static_cast<uint64_t>(kMaxSize)) {
    return static_cast<int64_t>(tokens->count);
  }
  return FileError(metadata.path(),
                   absl::StrCat(key, ": expected a number, or tokenizer.ggml.tokens to count"));
}

// 32 where a quantized matrix is cut along its FFN columns.
int FfnBlock(const GgufFile& gguf) {
  for (const StoredTensor& tensor : gguf.tensors) {
    if (absl::EndsWith(tensor.name, ".ffn_down.weight") && IsQuantized(tensor.type)) return 32;
  }
  return 1;
}

}  // namespace

absl::StatusOr<v1::Architecture> ReadGgufArchitecture(const GgufFile& gguf) {
  const GgufMetadata& metadata = gguf.metadata;
  TESSERA_ASSIGN_OR_RETURN(const Family* family, FindFamily(metadata));
  const std::string prefix = absl::StrCat(family->gguf, ".");
  TESSERA_RETURN_IF_ERROR(RefuseUnsupported(gguf, *family, prefix));

  const auto require = [&](const char* key) { return metadata.Int(prefix + key, 1, kMaxSize); };
  ModelNumbers numbers;
  TESSERA_ASSIGN_OR_RETURN(numbers.layers, require("block_count"));
  TESSERA_ASSIGN_OR_RETURN(numbers.hidden, require("embedding_length"));
  TESSERA_ASSIGN_OR_RETURN(numbers.ffn, require("feed_forward_length"));
  TESSERA_ASSIGN_OR_RETURN(numbers.max_positions, require("context_length"));
  TESSERA_ASSIGN_OR_RETURN(numbers.heads, require("attention.head_count"));
  TESSERA_ASSIGN_OR_RETURN(
      numbers.kv_heads,
      metadata.IntOr(prefix + "attention.head_count_kv", 1, kMaxSize, numbers.heads));
  TESSERA_ASSIGN_OR_RETURN(numbers.head_dim,
                           HeadDim(metadata, prefix, numbers.hidden, numbers.heads));
  TESSERA_ASSIGN_OR_RETURN(numbers.vocab, VocabSize(metadata, prefix));
  TESSERA_ASSIGN_OR_RETURN(
      const auto eps,
      metadata.OptionalNumber(prefix + "attention.layer_norm_rms_epsilon", 0, 1));
  if (!eps) {
    return FileError(metadata.path(), absl::StrCat(prefix, "attention.layer_norm_rms_epsilon: ",
                                                   "expected a number, file has nothing"));
  }
  numbers.rms_norm_eps = *eps;
  numbers.tied_embeddings = FindTensor(gguf, "output.weight") == nullptr;
  numbers.qkv_bias = family->qkv_bias || FindTensor(gguf, "blk.0.attn_q.bias") != nullptr;
  numbers.ffn_block = FfnBlock(gguf);
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t window,
      metadata.IntOr(prefix + "attention.sliding_window", 0, UINT32_MAX, 0));
  numbers.variations = DefaultVariations(*family, numbers.layers);
  // A window as long as the context never bites; files write it for "none" too.
  if (window < numbers.max_positions) {
    for (LayerVariation& layer : numbers.variations) {
      layer.sliding_window = static_cast<int>(window);
    }
  }
  if (family->multipliers) {
    TESSERA_RETURN_IF_ERROR(ReadMultipliers(metadata, prefix, numbers));
  }
  TESSERA_ASSIGN_OR_RETURN(
      numbers.rope,
      ReadGgufRope(metadata, prefix, *family, FindTensor(gguf, "rope_freqs.weight"), numbers));
  return MakeArchitecture(*family, numbers);
}

}  // namespace tessera::worker
