#include "worker/files/gguf/architecture.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/ffn_granularity.h"
#include "worker/files/gguf/rope.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 30;

struct Family {
  const char* name;
  v1::RopePairing pairing;
  bool always_qkv_bias;
  bool qk_norm;
};
constexpr Family kFamilies[] = {
    {"llama", v1::ROPE_PAIRING_INTERLEAVED, false, false},
    {"qwen2", v1::ROPE_PAIRING_HALF_SPLIT, true, false},
    {"qwen3", v1::ROPE_PAIRING_HALF_SPLIT, false, true},
};

absl::StatusOr<const Family*> FindFamily(const GgufMetadata& metadata) {
  TESSERA_ASSIGN_OR_RETURN(const auto name, metadata.OptionalString("general.architecture"));
  if (!name) {
    return FileError(metadata.path(), "general.architecture: expected a string, file has nothing");
  }
  std::vector<absl::string_view> supported;
  for (const Family& family : kFamilies) {
    if (*name == family.name) return &family;
    supported.push_back(family.name);
  }
  return UnsupportedError(metadata.path(),
                          absl::StrCat("architecture ", Printable(*name), "; supported: ",
                                       absl::StrJoin(supported, ", ")));
}

const StoredTensor* FindTensor(const GgufFile& gguf, absl::string_view name) {
  for (const StoredTensor& tensor : gguf.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// Keys whose other values would change the arithmetic into something not implemented.
absl::Status RefuseUnsupported(const GgufMetadata& metadata, const std::string& prefix) {
  TESSERA_ASSIGN_OR_RETURN(const int64_t splits, metadata.IntOr("split.count", 0, 65535, 0));
  if (splits > 1) {
    return UnsupportedError(metadata.path(),
                            absl::StrCat("one of ", splits, " parts of a split model; supported: ",
                                         "one file (gguf-split --merge joins them)"));
  }
  for (const char* key : {"expert_count", "logit_scale", "residual_scale", "embedding_scale",
                          "attention.clamp_kqv", "attention.scale", "attention.max_alibi_bias"}) {
    TESSERA_ASSIGN_OR_RETURN(const double value,
                             metadata.NumberOr(absl::StrCat(prefix, key), -1e30, 1e30, 0));
    if (value != 0) {
      return UnsupportedError(metadata.path(),
                              absl::StrCat(prefix, key, " ", value, "; supported: none"));
    }
  }
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
  const std::string prefix = absl::StrCat(family->name, ".");
  TESSERA_RETURN_IF_ERROR(RefuseUnsupported(metadata, prefix));

  const auto require = [&](const char* key) { return metadata.Int(prefix + key, 1, kMaxSize); };
  TESSERA_ASSIGN_OR_RETURN(const int64_t layers, require("block_count"));
  TESSERA_ASSIGN_OR_RETURN(const int64_t hidden, require("embedding_length"));
  TESSERA_ASSIGN_OR_RETURN(const int64_t ffn, require("feed_forward_length"));
  TESSERA_ASSIGN_OR_RETURN(const int64_t positions, require("context_length"));
  TESSERA_ASSIGN_OR_RETURN(const int64_t heads, require("attention.head_count"));
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t kv_heads,
      metadata.IntOr(prefix + "attention.head_count_kv", 1, kMaxSize, heads));
  TESSERA_ASSIGN_OR_RETURN(const int64_t head_dim, HeadDim(metadata, prefix, hidden, heads));
  TESSERA_ASSIGN_OR_RETURN(const int64_t vocab, VocabSize(metadata, prefix));
  TESSERA_ASSIGN_OR_RETURN(
      const auto eps,
      metadata.OptionalNumber(prefix + "attention.layer_norm_rms_epsilon", 0, 1));
  if (!eps) {
    return FileError(metadata.path(), absl::StrCat(prefix, "attention.layer_norm_rms_epsilon: ",
                                                   "expected a number, file has nothing"));
  }
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t window,
      metadata.IntOr(prefix + "attention.sliding_window", 0, UINT32_MAX, 0));

  v1::Architecture arch;
  arch.set_family(family->name);
  arch.set_num_layers(static_cast<int>(layers));
  arch.set_hidden_size(static_cast<int>(hidden));
  arch.set_vocab_size(static_cast<int>(vocab));
  arch.set_max_positions(static_cast<int>(positions));
  arch.set_rms_norm_eps(static_cast<float>(*eps));
  arch.set_tied_embeddings(FindTensor(gguf, "output.weight") == nullptr);

  v1::LayerConfig& layer = *arch.add_layer_kinds();
  layer.set_norms(v1::LayerConfig::NORM_PLACEMENT_PRE);
  v1::AttentionConfig& attention = *layer.mutable_attention();
  attention.set_num_heads(static_cast<int>(heads));
  attention.set_num_kv_heads(static_cast<int>(kv_heads));
  attention.set_head_dim(static_cast<int>(head_dim));
  // A window as long as the context never bites; files write it for "none" too.
  attention.set_sliding_window(window < positions ? static_cast<int>(window) : 0);
  attention.set_qkv_bias(family->always_qkv_bias ||
                         FindTensor(gguf, "blk.0.attn_q.bias") != nullptr);
  if (family->qk_norm) attention.set_qk_norm(v1::AttentionConfig::QK_NORM_PER_HEAD);
  attention.mutable_rope()->set_pairing(family->pairing);
  TESSERA_RETURN_IF_ERROR(ReadGgufRope(metadata, prefix, FindTensor(gguf, "rope_freqs.weight"),
                                       arch.max_positions(), &attention));
  v1::FeedForwardConfig& feed_forward = *layer.mutable_feed_forward();
  feed_forward.set_kind(v1::FeedForwardConfig::KIND_GATED);
  feed_forward.set_activation(v1::FeedForwardConfig::ACTIVATION_SILU);
  feed_forward.set_width(static_cast<int>(ffn));
  feed_forward.set_granularity(FfnGranularity(ffn, heads, FfnBlock(gguf)));
  return arch;
}

}  // namespace tessera::worker
