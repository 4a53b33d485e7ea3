#include "proto/model/tensor_roles.h"

#include "absl/strings/str_cat.h"
#include "proto/model/layers.h"

namespace tessera::model {
namespace {

// clang-format off
constexpr TensorRole kRoles[] = {
    {"token_embedding", Place::kBeforeLayers, Dim::kVocab, Dim::kHidden, v1::SHARD_AXIS_VOCAB_ROWS, When::kAlways},

    {"attn_norm", Place::kLayer, Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPreNorm},
    {"wq", Place::kLayer, Dim::kQueries, Dim::kHidden, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kAlways},
    {"wk", Place::kLayer, Dim::kKeys, Dim::kHidden, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kAlways},
    {"wv", Place::kLayer, Dim::kKeys, Dim::kHidden, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kAlways},
    {"bq", Place::kLayer, Dim::kNone, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kQkvBias},
    {"bk", Place::kLayer, Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kQkvBias},
    {"bv", Place::kLayer, Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kQkvBias},
    {"q_norm", Place::kLayer, Dim::kNone, Dim::kHeadDim, v1::SHARD_AXIS_REPLICATED, When::kHeadNorm},
    {"k_norm", Place::kLayer, Dim::kNone, Dim::kHeadDim, v1::SHARD_AXIS_REPLICATED, When::kHeadNorm},
    {"q_norm", Place::kLayer, Dim::kNone, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_ROWS, When::kWholeNorm},
    {"k_norm", Place::kLayer, Dim::kNone, Dim::kKeys, v1::SHARD_AXIS_KV_HEAD_ROWS, When::kWholeNorm},
    {"wo", Place::kLayer, Dim::kHidden, Dim::kQueries, v1::SHARD_AXIS_Q_HEAD_COLS, When::kAlways},
    {"attn_post_norm", Place::kLayer, Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPostNorm},
    {"ffn_norm", Place::kLayer, Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPreNorm},
    {"w_gate", Place::kLayer, Dim::kFfn, Dim::kHidden, v1::SHARD_AXIS_FFN_ROWS, When::kAlways},
    {"w_up", Place::kLayer, Dim::kFfn, Dim::kHidden, v1::SHARD_AXIS_FFN_ROWS, When::kAlways},
    {"w_down", Place::kLayer, Dim::kHidden, Dim::kFfn, v1::SHARD_AXIS_FFN_COLS, When::kAlways},
    {"ffn_post_norm", Place::kLayer, Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kPostNorm},

    {"output_norm", Place::kAfterLayers, Dim::kNone, Dim::kHidden, v1::SHARD_AXIS_REPLICATED, When::kAlways},
    {"output", Place::kAfterLayers, Dim::kVocab, Dim::kHidden, v1::SHARD_AXIS_VOCAB_ROWS, When::kUntied},
};
// clang-format on

// layer: empty outside the layers.
int64_t SizeOf(Dim dim, const v1::Architecture& arch, const v1::LayerConfig& layer) {
  switch (dim) {
    case Dim::kNone:
      return 0;
    case Dim::kHidden:
      return arch.hidden_size();
    case Dim::kQueries:
      return int64_t{layer.attention().num_heads()} * layer.attention().head_dim();
    case Dim::kKeys:
      return int64_t{layer.attention().num_kv_heads()} * layer.attention().head_dim();
    case Dim::kHeadDim:
      return layer.attention().head_dim();
    case Dim::kFfn:
      return layer.feed_forward().width();
    case Dim::kVocab:
      return arch.vocab_size();
  }
  return 0;
}

}  // namespace

absl::Span<const TensorRole> TensorRoles() { return kRoles; }

bool IsPresent(const TensorRole& role, const v1::Architecture& arch, const v1::LayerConfig& layer) {
  switch (role.when) {
    case When::kAlways:
      return true;
    case When::kUntied:
      return !arch.tied_embeddings();
    case When::kPreNorm:
      return layer.norms() != v1::LayerConfig::NORM_PLACEMENT_POST;
    case When::kPostNorm:
      return layer.norms() != v1::LayerConfig::NORM_PLACEMENT_PRE;
    case When::kQkvBias:
      return layer.attention().qkv_bias();
    case When::kHeadNorm:
      return layer.attention().qk_norm() == v1::AttentionConfig::QK_NORM_PER_HEAD;
    case When::kWholeNorm:
      return layer.attention().qk_norm() == v1::AttentionConfig::QK_NORM_WHOLE_WIDTH;
  }
  return false;
}

absl::string_view RoleName(absl::string_view tensor_name) {
  const size_t dot = tensor_name.rfind('.');
  return dot == absl::string_view::npos ? tensor_name : tensor_name.substr(dot + 1);
}

std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch) {
  std::vector<ExpectedTensor> tensors;
  const auto append = [&](Place place, int layer) {
    const v1::LayerConfig& config =
        layer < 0 ? v1::LayerConfig::default_instance() : LayerAt(arch, layer);
    for (const TensorRole& role : kRoles) {
      if (role.place != place || !IsPresent(role, arch, config)) continue;
      ExpectedTensor& tensor = tensors.emplace_back();
      tensor.role = &role;
      tensor.name = layer < 0 ? role.name : absl::StrCat("layers.", layer, ".", role.name);
      if (role.rows != Dim::kNone) tensor.shape.push_back(SizeOf(role.rows, arch, config));
      tensor.shape.push_back(SizeOf(role.cols, arch, config));
      tensor.axis = role.axis;
      tensor.layer = layer;
    }
  };
  append(Place::kBeforeLayers, -1);
  for (int layer = 0; layer < arch.num_layers(); ++layer) append(Place::kLayer, layer);
  append(Place::kAfterLayers, -1);
  return tensors;
}

}  // namespace tessera::model
