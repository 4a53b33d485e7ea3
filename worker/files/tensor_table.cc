#include "worker/files/tensor_table.h"

#include <unordered_map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"
#include "proto/model/tensor_roles.h"
#include "worker/files/families.h"
#include "worker/files/file_errors.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

// What a role's tensor is called in files of the Llama family; "%d" is the layer.
struct SourceName {
  absl::string_view role;
  const char* gguf;
  const char* hugging_face;
};

// clang-format off
constexpr SourceName kSourceNames[] = {
    {"token_embedding", "token_embd.weight",                "model.embed_tokens.weight"},
    {"attn_norm",       "blk.%d.attn_norm.weight",          "model.layers.%d.input_layernorm.weight"},
    {"wq",              "blk.%d.attn_q.weight",             "model.layers.%d.self_attn.q_proj.weight"},
    {"wk",              "blk.%d.attn_k.weight",             "model.layers.%d.self_attn.k_proj.weight"},
    {"wv",              "blk.%d.attn_v.weight",             "model.layers.%d.self_attn.v_proj.weight"},
    {"bq",              "blk.%d.attn_q.bias",               "model.layers.%d.self_attn.q_proj.bias"},
    {"bk",              "blk.%d.attn_k.bias",               "model.layers.%d.self_attn.k_proj.bias"},
    {"bv",              "blk.%d.attn_v.bias",               "model.layers.%d.self_attn.v_proj.bias"},
    {"q_norm",          "blk.%d.attn_q_norm.weight",        "model.layers.%d.self_attn.q_norm.weight"},
    {"k_norm",          "blk.%d.attn_k_norm.weight",        "model.layers.%d.self_attn.k_norm.weight"},
    {"wo",              "blk.%d.attn_output.weight",        "model.layers.%d.self_attn.o_proj.weight"},
    {"attn_post_norm",  "blk.%d.post_attention_norm.weight", "model.layers.%d.post_attention_layernorm.weight"},
    {"ffn_norm",        "blk.%d.ffn_norm.weight",           "model.layers.%d.post_attention_layernorm.weight"},
    {"w_gate",          "blk.%d.ffn_gate.weight",           "model.layers.%d.mlp.gate_proj.weight"},
    {"w_up",            "blk.%d.ffn_up.weight",             "model.layers.%d.mlp.up_proj.weight"},
    {"w_down",          "blk.%d.ffn_down.weight",           "model.layers.%d.mlp.down_proj.weight"},
    {"ffn_post_norm",   "blk.%d.post_ffw_norm.weight",      "model.layers.%d.post_feedforward_layernorm.weight"},
    {"output_norm",     "output_norm.weight",               "model.norm.weight"},
    {"output",          "output.weight",                    "lm_head.weight"},
};
// clang-format on

// What the family calls a layer's tensor where that is not what the Llama family does; else null.
const char* OwnName(const Family* family, absl::string_view role, NameStyle style) {
  if (family == nullptr) return nullptr;
  for (const TensorName& name : family->names) {
    if (name.role == role) return style == NameStyle::kGguf ? name.gguf : name.hugging_face;
  }
  return nullptr;
}

std::string SourceNameOf(const model::ExpectedTensor& tensor, const Family* family,
                         NameStyle style) {
  if (style == NameStyle::kCanonical) return tensor.name;
  const absl::string_view role = tensor.role->name;
  const char* const own = tensor.layer < 0 ? nullptr : OwnName(family, role, style);
  if (own != nullptr) {
    return absl::StrCat(style == NameStyle::kGguf ? "blk." : "model.layers.", tensor.layer, ".",
                        own);
  }
  for (const SourceName& name : kSourceNames) {
    if (name.role != role) continue;
    return absl::StrReplaceAll(style == NameStyle::kGguf ? name.gguf : name.hugging_face,
                               {{"%d", absl::StrCat(tensor.layer)}});
  }
  return tensor.name;  // a role that no file has a name for is not found in any
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

}  // namespace

absl::Status CheckArchitecture(absl::string_view path, const v1::Architecture& arch) {
  const absl::Status checked = model::CheckArchitecture(arch);
  return checked.ok() ? checked : Annotate(checked, path);
}

std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch, NameStyle style) {
  const Family* const family = FindFamilyNamed(arch.family());
  std::vector<ExpectedTensor> tensors;
  for (model::ExpectedTensor& expected : model::ExpectedTensors(arch)) {
    ExpectedTensor& tensor = tensors.emplace_back();
    tensor.source_name = SourceNameOf(expected, family, style);
    tensor.name = std::move(expected.name);
    tensor.shape = std::move(expected.shape);
    tensor.axis = expected.axis;
    tensor.layer = expected.layer;
  }
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
