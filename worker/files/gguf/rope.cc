#include "worker/files/gguf/rope.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"
#include "worker/files/repack.h"

namespace tessera::worker {
namespace {

constexpr double kMaxFactor = 1e6;

absl::Status ReadYarn(const GgufMetadata& metadata, const std::string& prefix, double factor,
                      int64_t max_positions, v1::RopeScaling* scaling) {
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t original,
      metadata.IntOr(prefix + "rope.scaling.original_context_length", 1, 1 << 30,
                     max_positions));
  // llama.cpp multiplies its own 0.1 ln(factor) + 1 by these.
  TESSERA_ASSIGN_OR_RETURN(
      const double attn_factor,
      metadata.NumberOr(prefix + "rope.scaling.attn_factor", 1e-6, kMaxFactor, 1));
  TESSERA_ASSIGN_OR_RETURN(
      const double yarn_attn_factor,
      metadata.NumberOr(prefix + "rope.scaling.yarn_attn_factor", 1e-6, kMaxFactor, 1));
  TESSERA_ASSIGN_OR_RETURN(
      const double fast,
      metadata.NumberOr(prefix + "rope.scaling.yarn_beta_fast", 1e-6, kMaxFactor, 32));
  TESSERA_ASSIGN_OR_RETURN(
      const double slow,
      metadata.NumberOr(prefix + "rope.scaling.yarn_beta_slow", 1e-6, kMaxFactor, 1));
  TESSERA_ASSIGN_OR_RETURN(
      const double ext_factor,
      metadata.NumberOr(prefix + "rope.scaling.yarn_ext_factor", -1e6, 1e6, 1));
  // Negative means "not set" there.
  if (ext_factor >= 0 && ext_factor != 1) {
    return UnsupportedError(metadata.path(), absl::StrCat(prefix, "rope.scaling.yarn_ext_factor ",
                                                          ext_factor, "; supported: 1"));
  }
  scaling->set_kind(v1::RopeScaling::KIND_YARN);
  scaling->set_factor(static_cast<float>(factor));
  scaling->set_original_max_positions(static_cast<int>(original));
  const double extra = attn_factor * yarn_attn_factor;
  if (extra != 1) {
    scaling->set_attention_factor(static_cast<float>(extra * (0.1 * std::log(factor) + 1.0)));
  }
  scaling->set_beta_fast(static_cast<float>(fast));
  scaling->set_beta_slow(static_cast<float>(slow));
  return absl::OkStatus();
}

absl::Status ReadFrequencyFactors(const GgufMetadata& metadata, const StoredTensor& tensor,
                                  int64_t head_dim, v1::RopeScaling* scaling) {
  if (scaling->kind() != v1::RopeScaling::KIND_NONE) {
    return UnsupportedError(metadata.path(),
                            absl::StrCat(tensor.name, " together with rope.scaling.type; ",
                                         "supported: one of the two"));
  }
  const std::vector<int64_t> expected = {head_dim / 2};
  if (tensor.shape != expected || tensor.type != v1::DATA_TYPE_F32) {
    return FileError(metadata.path(),
                     absl::StrCat(tensor.name, ": expected F32 ", ShapeText(expected),
                                  ", file has ", tensor.type_name, " ", ShapeText(tensor.shape)));
  }
  std::vector<float> factors(static_cast<size_t>(expected[0]));
  DequantizeRow(tensor.type, tensor.data().data(), 0, expected[0], factors.data());
  for (const float factor : factors) {
    if (!(factor > 0 && factor < 1e9f)) {
      return FileError(metadata.path(), absl::StrCat(tensor.name, ": expected numbers above 0, ",
                                                     "file has ", factor));
    }
    scaling->add_frequency_factors(factor);
  }
  scaling->set_kind(v1::RopeScaling::KIND_FREQUENCY_FACTORS);
  return absl::OkStatus();
}

absl::Status ReadScaling(const GgufMetadata& metadata, const std::string& prefix,
                         int64_t max_positions, v1::RopeScaling* scaling) {
  // Files from before rope.scaling.type say how much to stretch, and mean linearly.
  TESSERA_ASSIGN_OR_RETURN(const double scale_linear,
                           metadata.NumberOr(prefix + "rope.scale_linear", 0, kMaxFactor, 0));
  TESSERA_ASSIGN_OR_RETURN(
      const double factor,
      metadata.NumberOr(prefix + "rope.scaling.factor", 0, kMaxFactor, scale_linear));
  TESSERA_ASSIGN_OR_RETURN(const auto type,
                           metadata.OptionalString(prefix + "rope.scaling.type"));
  if (factor != 0 && factor < 1) {
    return FileError(metadata.path(), absl::StrCat(prefix, "rope.scaling.factor: expected at ",
                                                   "least 1, file has ", factor));
  }
  const absl::string_view kind = type.value_or(factor > 1 ? "linear" : "none");
  if (kind == "none" || (kind == "linear" && factor <= 1)) return absl::OkStatus();
  if (kind == "linear") {
    scaling->set_kind(v1::RopeScaling::KIND_LINEAR);
    scaling->set_factor(static_cast<float>(factor));
    return absl::OkStatus();
  }
  if (kind == "yarn") {
    return ReadYarn(metadata, prefix, factor == 0 ? 1 : factor, max_positions, scaling);
  }
  return UnsupportedError(metadata.path(),
                          absl::StrCat(prefix, "rope.scaling.type ", Printable(kind),
                                       "; supported: none, linear, yarn"));
}

}  // namespace

absl::StatusOr<v1::RopeConfig> ReadGgufRope(const GgufMetadata& metadata,
                                            const std::string& prefix, const Family& family,
                                            const StoredTensor* frequency_factors,
                                            const ModelNumbers& numbers) {
  v1::RopeConfig rope;
  rope.set_pairing(family.gguf_pairing);
  TESSERA_ASSIGN_OR_RETURN(const double theta,
                           metadata.NumberOr(prefix + "rope.freq_base", 1, 1e20, 10000.0));
  rope.set_theta(static_cast<float>(theta));
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t rope_dim,
      metadata.IntOr(prefix + "rope.dimension_count", 0, 1 << 30, numbers.head_dim));
  if (rope_dim != numbers.head_dim) {
    const bool is_part = rope_dim >= 2 && rope_dim < numbers.head_dim && rope_dim % 2 == 0;
    if (!family.partial_rotary || !is_part) {
      return UnsupportedError(metadata.path(),
                              absl::StrCat(prefix, "rope.dimension_count ", rope_dim,
                                           "; supported: the head size ", numbers.head_dim));
    }
    rope.set_rotary_dim(static_cast<int>(rope_dim));
  }
  v1::RopeScaling* scaling = rope.mutable_scaling();
  TESSERA_RETURN_IF_ERROR(ReadScaling(metadata, prefix, numbers.max_positions, scaling));
  if (frequency_factors != nullptr) {
    TESSERA_RETURN_IF_ERROR(
        ReadFrequencyFactors(metadata, *frequency_factors, numbers.head_dim, scaling));
  }
  return rope;
}

}  // namespace tessera::worker
