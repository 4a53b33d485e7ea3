#include "worker/files/tensor_table.h"

#include <unordered_map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "proto/base/status_macros.h"
#include "proto/model/layers.h"
#include "worker/files/families.h"
#include "worker/files/file_errors.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

enum class Dim { kNone, kHidden, kQueries, kKeys, kHeadDim, kFfn, kVocab };
enum class When { kAlways, kPreNorm, kPostNorm, kQkvBias, kHeadNorm, kWholeNorm, kUntied };
enum class Place { kBeforeLayers, kLayer, kAfterLayers };

struct Row {
  Place place;
  const char* name;
  const char* gguf;  // "%d" is the layer
  const char* hugging_face;
  Dim rows, cols;  // a vector has rows == kNone
  v1::ShardAxis axis;
  When when;
};

// clang-format off
constexpr Row kRows[] = {
    {Place::kBeforeLayers, "token_embedding", "token_embd.weight", "model.embed_tokens.weight",
     Dim::kVocab, Dim::kHidden, v1::SHARD_AXIS_VOCAB_ROWS, When::kAlways},

    {Place::kLayer, "layers.%d.attn_norm", "blk.%d.attn_norm.weight",
     "model.layers.%d.input_layernorm.weight",
     Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPreNorm},
    {Place::kLayer, "layers.%d.wq", "blk.%d.attn_q.weight",
     "model.layers.%d.self_attn.q_proj.weight",
     Dim::kQueries, Dim::kHidden, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kAlways},
    {Place::kLayer, "layers.%d.wk", "blk.%d.attn_k.weight",
     "model.layers.%d.self_attn.k_proj.weight",
     Dim::kKeys, Dim::kHidden, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kAlways},
    {Place::kLayer, "layers.%d.wv", "blk.%d.attn_v.weight",
     "model.layers.%d.self_attn.v_proj.weight",
     Dim::kKeys, Dim::kHidden, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kAlways},
    {Place::kLayer, "layers.%d.bq", "blk.%d.attn_q.bias",
     "model.layers.%d.self_attn.q_proj.bias",
     Dim::kNone, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kQkvBias},
    {Place::kLayer, "layers.%d.bk", "blk.%d.attn_k.bias",
     "model.layers.%d.self_attn.k_proj.bias",
     Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kQkvBias},
    {Place::kLayer, "layers.%d.bv", "blk.%d.attn_v.bias",
     "model.layers.%d.self_attn.v_proj.bias",
     Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kQkvBias},
    {Place::kLayer, "layers.%d.q_norm", "blk.%d.attn_q_norm.weight",
     "model.layers.%d.self_attn.q_norm.weight",
     Dim::kNone, Dim::kHeadDim, v1::SHARD_AXIS_REPLICATED, When::kHeadNorm},
    {Place::kLayer, "layers.%d.k_norm", "blk.%d.attn_k_norm.weight",
     "model.layers.%d.self_attn.k_norm.weight",
     Dim::kNone, Dim::kHeadDim, v1::SHARD_AXIS_REPLICATED, When::kHeadNorm},
    {Place::kLayer, "layers.%d.q_norm", "blk.%d.attn_q_norm.weight",
     "model.layers.%d.self_attn.q_norm.weight",
     Dim::kNone, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kWholeNorm},
    {Place::kLayer, "layers.%d.k_norm", "blk.%d.attn_k_norm.weight",
     "model.layers.%d.self_attn.k_norm.weight",
     Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kWholeNorm},
    {Place::kLayer, "layers.%d.wo", "blk.%d.attn_output.weight",
     "model.layers.%d.self_attn.o_proj.weight",
     Dim::kHidden, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_COLS, When::kAlways},
    {Place::kLayer, "layers.%d.attn_post_norm", "blk.%d.post_attention_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight",
     Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPostNorm},
    {Place::kLayer, "layers.%d.ffn_norm", "blk.%d.ffn_norm.weight",
     "model.layers.%d.post_attention_layernorm.weight",
     Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPreNorm},
    {Place::kLayer, "layers.%d.w_gate", "blk.%d.ffn_gate.weight",
     "model.layers.%d.mlp.gate_proj.weight",
     Dim::kFfn, Dim::kHidden, v1::SHARD_AXIS_FFN_ROWS, When::kAlways},
    {Place::kLayer, "layers.%d.w_up", "blk.%d.ffn_up.weight",
     "model.layers.%d.mlp.up_proj.weight",
     Dim::kFfn, Dim::kHidden, v1::SHARD_AXIS_FFN_ROWS, When::kAlways},
    {Place::kLayer, "layers.%d.w_down", "blk.%d.ffn_down.weight",
     "model.layers.%d.mlp.down_proj.weight",
     Dim::kHidden, Dim::kFfn, v1::SHARD_AXIS_FFN_COLS, When::kAlways},
    {Place::kLayer, "layers.%d.ffn_post_norm", "blk.%d.post_ffw_norm.weight",
     "model.layers.%d.post_feedforward_layernorm.weight",
     Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPostNorm},

    {Place::kAfterLayers, "output_norm", "output_norm.weight", "model.norm.weight",
     Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kAlways},
    {Place::kAfterLayers, "output", "output.weight", "lm_head.weight",
     Dim::kVocab, Dim::kHidden, v1::SHARD_AXIS_VOCAB_ROWS, When::kUntied},
};
// clang-format on

// layer: null outside the layers.
int64_t Size(Dim dim, const v1::Architecture& arch, const v1::LayerConfig* layer) {
  switch (dim) {
    case Dim::kNone:
      return 0;
    case Dim::kHidden:
      return arch.hidden_size();
    case Dim::kQueries:
      return int64_t{layer->attention().num_heads()} * layer->attention().head_dim();
    case Dim::kKeys:
      return int64_t{layer->attention().num_kv_heads()} * layer->attention().head_dim();
    case Dim::kHeadDim:
      return layer->attention().head_dim();
    case Dim::kFfn:
      return layer->feed_forward().width();
    case Dim::kVocab:
      return arch.vocab_size();
  }
  return 0;
}

bool Applies(When when, const v1::Architecture& arch, const v1::LayerConfig* layer) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kQkvBias:
      return layer->attention().qkv_bias();
    case When::kPreNorm:
      return layer->norms() != v1::LayerConfig::NORM_PLACEMENT_POST;
    case When::kPostNorm:
      return layer->norms() != v1::LayerConfig::NORM_PLACEMENT_PRE;
    case When::kHeadNorm:
      return layer->attention().qk_norm() == v1::AttentionConfig::QK_NORM_PER_HEAD;
    case When::kWholeNorm:
      return layer->attention().qk_norm() == v1::AttentionConfig::QK_NORM_WHOLE_WIDTH;
    case When::kUntied:
      return !arch.tied_embeddings();
  }
  return false;
}

// What the family calls a layer's tensor in its files where that is not what the row says; or null.
const char* OwnName(const Row& row, const v1::Architecture& arch, NameStyle style) {
  const Family* family = FindFamilyNamed(arch.family());
  if (family == nullptr || row.place != Place::kLayer || style == NameStyle::kCanonical) {
    return nullptr;
  }
  for (const TensorName& name : family->names) {
    if (absl::EndsWith(row.name, absl::StrCat(".", name.role))) {
      return style == NameStyle::kGguf ? name.gguf : name.hugging_face;
    }
  }
  return nullptr;
}

ExpectedTensor Instantiate(const Row& row, const v1::Architecture& arch, NameStyle style,
                           int layer) {
  const v1::LayerConfig* config = layer < 0 ? nullptr : &model::LayerAt(arch, layer);
  const char* source = style == NameStyle::kGguf          ? row.gguf
                       : style == NameStyle::kHuggingFace ? row.hugging_face
                                                          : row.name;
  const std::string index = absl::StrCat(layer);
  ExpectedTensor tensor;
  tensor.name = absl::StrReplaceAll(row.name, {{"%d", index}});
  tensor.source_name = absl::StrReplaceAll(source, {{"%d", index}});
  if (const char* own = OwnName(row, arch, style)) {
    tensor.source_name = absl::StrCat(
        style == NameStyle::kGguf ? "blk." : "model.layers.", index, ".", own);
  }
  if (row.rows != Dim::kNone) tensor.shape.push_back(Size(row.rows, arch, config));
  tensor.shape.push_back(Size(row.cols, arch, config));
  tensor.axis = row.axis;
  tensor.layer = layer;
  return tensor;
}

// Tensors that carry nothing the model needs: tables that can be computed, or that were read into
// the architecture already. With tied embeddings Hugging Face files may hold the head once more.
bool IsIgnorable(const StoredTensor& tensor, const v1::Architecture& arch, NameStyle style) {
  const absl::string_view name = tensor.name;
  if (style == NameStyle::kGguf) {
    return name == "rope_freqs.weight" || absl::EndsWith(name, ".attn_rot_embd") ||
           absl::EndsWith(name, ".attn_rot_embd.weight");
  }
  // Inputs are rounded by scales of their own (input_scale: one for all, measured beforehand).
  return absl::EndsWith(name, ".rotary_emb.inv_freq") || absl::EndsWith(name, ".input_scale") ||
         (arch.tied_embeddings() && name == "lm_head.weight");
}

// Tensors of one source lie in its rows in the order in which they stand here.
void PlaceInSources(std::vector<ExpectedTensor>& tensors) {
  std::unordered_map<std::string, int64_t> rows;
  for (ExpectedTensor& tensor : tensors) {
    if (tensor.shape.size() < 2) continue;
    int64_t& end = rows[tensor.source_name];
    tensor.first_row = end;
    end += tensor.shape[0];
  }
  for (ExpectedTensor& tensor : tensors) {
    if (tensor.shape.size() == 2) tensor.source_rows = rows[tensor.source_name];
  }
}

std::vector<int64_t> SourceShape(const ExpectedTensor& expected) {
  if (expected.shape.size() < 2) return expected.shape;
  return {expected.source_rows, expected.shape[1]};
}

absl::Status CheckShapeAndType(absl::string_view path, const ExpectedTensor& expected,
                               const StoredTensor& stored) {
  if (stored.shape != SourceShape(expected)) {
    return FileError(path, absl::StrCat(expected.source_name, ": expected ",
                                        ShapeText(SourceShape(expected)), ", file has ",
                                        ShapeText(stored.shape)));
  }
  if (stored.type == v1::DATA_TYPE_UNSPECIFIED) {
    return UnsupportedError(
        path, absl::StrCat(expected.source_name, ": expected F32, F16 or BF16, file has ",
                           stored.type_name));
  }
  return absl::OkStatus();
}

// The scales beside a matrix of F8_E4M3.
absl::StatusOr<size_t> FindScale(absl::string_view path, const ExpectedTensor& expected,
                                 const std::vector<StoredTensor>& stored,
                                 const std::unordered_map<std::string, size_t>& by_name) {
  if (expected.shape.size() != 2) {
    return UnsupportedError(
        path, absl::StrCat(expected.source_name, ": expected F32, F16 or BF16, file has F8_E4M3"));
  }
  const std::string name = absl::StrCat(expected.source_name, "_scale");
  const auto it = by_name.find(name);
  if (it == by_name.end()) {
    return FileError(
        path, absl::StrCat(name, ": expected beside a matrix of F8_E4M3, the file has ", "none"));
  }
  const StoredTensor& scale = stored[it->second];
  using Shape = std::vector<int64_t>;
  const int64_t rows = expected.source_rows;
  const Shape& shape = scale.shape;
  if (shape != Shape{} && shape != Shape{1} && shape != Shape{rows} && shape != Shape{rows, 1}) {
    return FileError(path, absl::StrCat(name, ": expected ", ShapeText({rows, 1}),
                                        " or one number, file has ", ShapeText(shape)));
  }
  if (scale.type != v1::DATA_TYPE_F32 && scale.type != v1::DATA_TYPE_F16 && scale.type != v1::DATA_TYPE_BF16) {
    return UnsupportedError(
        path, absl::StrCat(name, ": expected F32, F16 or BF16, file has ", scale.type_name));
  }
  return it->second;
}

absl::Status CheckRange(absl::string_view path, const char* what, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return FileError(path, absl::StrCat(what, ": expected 1 .. ", max, ", file has ", value));
}

}  // namespace

absl::Status CheckArchitecture(absl::string_view path, const v1::Architecture& arch) {
  constexpr int64_t kMaxWidth = int64_t{1} << 20;  // a row of float32 stays within 4 MB
  TESSERA_RETURN_IF_ERROR(CheckRange(path, "number of layers", arch.num_layers(), 4096));
  TESSERA_RETURN_IF_ERROR(CheckRange(path, "hidden size", arch.hidden_size(), kMaxWidth));
  for (const v1::LayerConfig& kind : arch.layer_kinds()) {
    const v1::AttentionConfig& attention = kind.attention();
    const int64_t queries = int64_t{attention.num_heads()} * attention.head_dim();
    TESSERA_RETURN_IF_ERROR(CheckRange(path, "number of heads", attention.num_heads(), 65536));
    TESSERA_RETURN_IF_ERROR(
        CheckRange(path, "number of KV heads", attention.num_kv_heads(), attention.num_heads()));
    TESSERA_RETURN_IF_ERROR(CheckRange(path, "head size", attention.head_dim(), 65536));
    TESSERA_RETURN_IF_ERROR(CheckRange(path, "heads times head size", queries, kMaxWidth));
    TESSERA_RETURN_IF_ERROR(CheckRange(path, "FFN size", kind.feed_forward().width(), kMaxWidth));
  }
  TESSERA_RETURN_IF_ERROR(CheckRange(path, "vocabulary size", arch.vocab_size(), 1 << 26));
  TESSERA_RETURN_IF_ERROR(CheckRange(path, "context length", arch.max_positions(), 1 << 30));
  for (const v1::LayerConfig& kind : arch.layer_kinds()) {
    const v1::AttentionConfig& attention = kind.attention();
    if (attention.num_heads() % attention.num_kv_heads() != 0) {
      return FileError(path, absl::StrCat("number of heads: expected a multiple of the ",
                                          attention.num_kv_heads(), " KV heads, file has ",
                                          attention.num_heads()));
    }
    if (attention.head_dim() % 2 != 0) {
      return FileError(path, absl::StrCat("head size: expected an even number, file has ",
                                          attention.head_dim()));
    }
  }
  if (!(arch.rms_norm_eps() >= 0 && arch.rms_norm_eps() < 1)) {
    return FileError(path, absl::StrCat("RMS norm epsilon: expected 0 .. 1, file has ",
                                        arch.rms_norm_eps()));
  }
  for (const v1::LayerConfig& kind : arch.layer_kinds()) {
    if (!kind.attention().has_rope()) continue;
    const float theta = kind.attention().rope().theta();
    if (!(theta > 1 && theta < 1e20f)) {
      return FileError(
          path, absl::StrCat("rope base frequency: expected 1 .. 1e20, file has ", theta));
    }
  }
  return absl::OkStatus();
}

std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch, NameStyle style) {
  std::vector<ExpectedTensor> tensors;
  const auto append = [&](Place place, int layer) {
    const v1::LayerConfig* config = layer < 0 ? nullptr : &model::LayerAt(arch, layer);
    for (const Row& row : kRows) {
      if (row.place == place && Applies(row.when, arch, config)) {
        tensors.push_back(Instantiate(row, arch, style, layer));
      }
    }
  };
  append(Place::kBeforeLayers, -1);
  for (int layer = 0; layer < arch.num_layers(); ++layer) append(Place::kLayer, layer);
  append(Place::kAfterLayers, -1);
  PlaceInSources(tensors);
  return tensors;
}

v1::TensorDescription Describe(const ExpectedTensor& expected, v1::DataType type,
                               const v1::Architecture& arch) {
  v1::TensorDescription description;
  description.set_name(expected.name);
  description.set_type(type);
  for (int64_t size : expected.shape) description.add_shape(size);
  description.set_axis(expected.axis);
  description.set_layer(expected.layer);
  const int64_t rows = expected.shape.size() == 2 ? expected.shape[0] : 1;
  const size_t row_bytes = kernels::RowBytes(ResidentType(description, arch),
                                             expected.shape.back());
  description.set_resident_bytes(rows * static_cast<int64_t>(row_bytes));
  return description;
}

absl::StatusOr<std::vector<MatchedTensor>> MatchTensors(absl::string_view path, NameStyle style,
                                                        const v1::Architecture& arch,
                                                        const std::vector<StoredTensor>& stored) {
  std::unordered_map<std::string, size_t> by_name;
  for (size_t i = 0; i < stored.size(); ++i) by_name.emplace(stored[i].name, i);

  std::vector<MatchedTensor> matched;
  std::vector<bool> used(stored.size(), false);
  for (const ExpectedTensor& expected : ExpectedTensors(arch, style)) {
    const auto it = by_name.find(expected.source_name);
    if (it == by_name.end()) {
      return FileError(path, absl::StrCat(expected.source_name, ": expected ",
                                          ShapeText(SourceShape(expected)), ", the file has none"));
    }
    const StoredTensor& found = stored[it->second];
    TESSERA_RETURN_IF_ERROR(CheckShapeAndType(path, expected, found));
    used[it->second] = true;
    matched.push_back({Describe(expected, found.type, arch), it->second, expected.first_row,
                       std::nullopt});
    if (found.type == v1::DATA_TYPE_F8_E4M3) {
      TESSERA_ASSIGN_OR_RETURN(const size_t scale, FindScale(path, expected, stored, by_name));
      matched.back().scale_index = scale;
      used[scale] = true;
    }
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    if (!used[i] && !IsIgnorable(stored[i], arch, style)) {
      return UnsupportedError(path, absl::StrCat(Printable(stored[i].name), ": a tensor that ",
                                                 arch.family(), " models of this kind do not have",
                                                 "; shape ", ShapeText(stored[i].shape)));
    }
  }
  return matched;
}

}  // namespace tessera::worker
