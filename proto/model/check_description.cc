#include "proto/model/check_description.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/status_macros.h"
#include "proto/model/enum_names.h"
#include "proto/model/layers.h"
#include "proto/model/limits.h"
#include "proto/model/tensor_roles.h"
#include "proto/wire/status_builders.h"

namespace tessera::model {
namespace {

absl::Status InRange(const std::string& field, int64_t value, int64_t lowest, int64_t highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return wire::FieldError(absl::StrCat("architecture.", field),
                          absl::StrCat("is ", value, "; expected ", lowest, " .. ", highest));
}

// Not NaN, not infinite.
absl::Status InRange(const std::string& field, float value, float lowest, float highest) {
  if (std::isfinite(value) && value >= lowest && value <= highest) return absl::OkStatus();
  return wire::FieldError(absl::StrCat("architecture.", field),
                          absl::StrCat("is ", value, "; expected ", lowest, " .. ", highest));
}

absl::Status CheckAttention(const v1::AttentionConfig& attention, const std::string& where) {
  const std::string in = absl::StrCat(where, "attention.");
  TESSERA_RETURN_IF_ERROR(
      InRange(in + "num_heads", int64_t{attention.num_heads()}, 1, kMaxHeads));
  TESSERA_RETURN_IF_ERROR(
      InRange(in + "num_kv_heads", int64_t{attention.num_kv_heads()}, 1, attention.num_heads()));
  TESSERA_RETURN_IF_ERROR(
      InRange(in + "head_dim", int64_t{attention.head_dim()}, 2, kMaxHeadDim));
  TESSERA_RETURN_IF_ERROR(
      InRange(in + "sliding_window", int64_t{attention.sliding_window()}, 0, INT32_MAX));
  if (attention.num_heads() % attention.num_kv_heads() != 0) {
    return wire::FieldError(absl::StrCat("architecture.", in, "num_kv_heads"),
                            absl::StrCat("is ", attention.num_kv_heads(),
                                         "; expected a divisor of the ", attention.num_heads(),
                                         " query heads"));
  }
  if (attention.head_dim() % 2 != 0) {
    return wire::FieldError(absl::StrCat("architecture.", in, "head_dim"),
                            absl::StrCat("is ", attention.head_dim(), "; expected an even number"));
  }
  TESSERA_RETURN_IF_ERROR(InRange(in + "scale", attention.scale(), 0.0f, kMaxFactor));
  const int64_t projection = int64_t{attention.num_heads()} * attention.head_dim();
  return InRange(in + "num_heads * head_dim", projection, 2, kMaxWidth);
}

absl::Status CheckFeedForward(const v1::FeedForwardConfig& feed_forward,
                              const std::string& where) {
  const std::string in = absl::StrCat(where, "feed_forward.");
  TESSERA_RETURN_IF_ERROR(InRange(in + "width", int64_t{feed_forward.width()}, 1, kMaxWidth));
  return InRange(in + "granularity", int64_t{feed_forward.granularity()}, 1, feed_forward.width());
}

absl::Status CheckNorms(const v1::LayerConfig& kind, const std::string& where) {
  if (kind.norms() == v1::LayerConfig::NORM_PLACEMENT_PRE ||
      kind.norms() == v1::LayerConfig::NORM_PLACEMENT_POST ||
      kind.norms() == v1::LayerConfig::NORM_PLACEMENT_PRE_AND_POST) {
    return InRange(where + "residual_multiplier", kind.residual_multiplier(), -kMaxFactor,
                   kMaxFactor);
  }
  return wire::FieldError(absl::StrCat("architecture.", where, "norms"),
                          absl::StrCat("is ", static_cast<int>(kind.norms()),
                                       "; expected PRE, POST or PRE_AND_POST"));
}

// What the messages can say and no device computes yet.
absl::Status CheckServed(const v1::LayerConfig& kind, const std::string& where) {
  const v1::AttentionConfig& attention = kind.attention();
  const v1::FeedForwardConfig& feed_forward = kind.feed_forward();
  const struct {
    bool asked;
    const char* field;
    const char* served;
  } rules[] = {
      {attention.qk_norm() != v1::AttentionConfig::QK_NORM_NONE &&
           attention.qk_norm() != v1::AttentionConfig::QK_NORM_PER_HEAD &&
           attention.qk_norm() != v1::AttentionConfig::QK_NORM_WHOLE_WIDTH,
       "attention.qk_norm", "NONE, PER_HEAD, WHOLE_WIDTH"},
      {attention.output_bias(), "attention.output_bias", "none"},
      {attention.logit_soft_cap() != 0, "attention.logit_soft_cap", "none"},
      {attention.sinks(), "attention.sinks", "none"},
      {feed_forward.kind() != v1::FeedForwardConfig::KIND_GATED, "feed_forward.kind", "GATED"},
      {feed_forward.activation() != v1::FeedForwardConfig::ACTIVATION_SILU,
       "feed_forward.activation", "SILU"},
      {feed_forward.bias(), "feed_forward.bias", "none"},
      {kind.norms() == v1::LayerConfig::NORM_PLACEMENT_PRE_AND_POST, "norms", "PRE, POST"},
  };
  for (const auto& rule : rules) {
    if (!rule.asked) continue;
    return absl::UnimplementedError(absl::StrCat("architecture.", where, rule.field,
                                                 " is not supported; supported: ", rule.served));
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const v1::Architecture& arch) {
  TESSERA_RETURN_IF_ERROR(InRange("num_layers", int64_t{arch.num_layers()}, 1, kMaxLayers));
  TESSERA_RETURN_IF_ERROR(InRange("hidden_size", int64_t{arch.hidden_size()}, 1, kMaxWidth));
  TESSERA_RETURN_IF_ERROR(InRange("vocab_size", int64_t{arch.vocab_size()}, 1, kMaxVocab));
  return InRange("max_positions", int64_t{arch.max_positions()}, 1, kMaxPositions);
}

absl::Status CheckRope(const v1::AttentionConfig& attention, const std::string& where) {
  const v1::RopeConfig& rope = attention.rope();
  const int64_t head_dim = attention.head_dim();
  const std::string in = absl::StrCat(where, "attention.rope.");
  if (rope.pairing() != v1::ROPE_PAIRING_INTERLEAVED &&
      rope.pairing() != v1::ROPE_PAIRING_HALF_SPLIT) {
    return wire::FieldError(absl::StrCat("architecture.", in, "pairing"),
                            absl::StrCat("is ", static_cast<int>(rope.pairing()),
                                         "; expected INTERLEAVED or HALF_SPLIT"));
  }
  if (!(rope.theta() > kMinRopeTheta && rope.theta() < kMaxRopeTheta)) {
    return wire::FieldError(absl::StrCat("architecture.", in, "theta"),
                            absl::StrCat("is ", rope.theta(), "; expected between ", kMinRopeTheta,
                                         " and ", kMaxRopeTheta));
  }
  TESSERA_RETURN_IF_ERROR(InRange(in + "rotary_dim", int64_t{rope.rotary_dim()}, 0, head_dim));
  if (rope.rotary_dim() % 2 != 0) {
    return wire::FieldError(absl::StrCat("architecture.", in, "rotary_dim"),
                            absl::StrCat("is ", rope.rotary_dim(), "; expected an even number"));
  }
  const v1::RopeScaling& scaling = rope.scaling();
  switch (scaling.kind()) {
    case v1::RopeScaling::KIND_NONE:
      return absl::OkStatus();
    case v1::RopeScaling::KIND_LINEAR:
      return InRange(in + "scaling.factor", scaling.factor(), 1e-6f, kMaxFactor);
    case v1::RopeScaling::KIND_LLAMA3:
    case v1::RopeScaling::KIND_YARN:
      break;
    case v1::RopeScaling::KIND_FREQUENCY_FACTORS: {
      TESSERA_RETURN_IF_ERROR(InRange(in + "scaling.frequency_factors (their number)",
                                      int64_t{scaling.frequency_factors_size()},
                                      RotaryDim(attention) / 2, RotaryDim(attention) / 2));
      for (const float factor : scaling.frequency_factors()) {
        TESSERA_RETURN_IF_ERROR(InRange(in + "scaling.frequency_factors", factor, 1e-6f, kMaxFrequencyFactor));
      }
      return absl::OkStatus();
    }
    default:
      return wire::FieldError(
          absl::StrCat("architecture.", in, "scaling.kind"),
          absl::StrCat("is ", static_cast<int>(scaling.kind()), ", which is unknown"));
  }
  TESSERA_RETURN_IF_ERROR(InRange(in + "scaling.factor", scaling.factor(), 1e-6f, kMaxFactor));
  TESSERA_RETURN_IF_ERROR(InRange(in + "scaling.original_max_positions",
                                  int64_t{scaling.original_max_positions()}, 1, kMaxPositions));
  if (scaling.kind() == v1::RopeScaling::KIND_YARN) {
    TESSERA_RETURN_IF_ERROR(
        InRange(in + "scaling.attention_factor", scaling.attention_factor(), 0.0f, kMaxFactor));
    TESSERA_RETURN_IF_ERROR(InRange(in + "scaling.beta_fast", scaling.beta_fast(), 0.0f, kMaxFactor));
    return InRange(in + "scaling.beta_slow", scaling.beta_slow(), 0.0f, kMaxFactor);
  }
  TESSERA_RETURN_IF_ERROR(
      InRange(in + "scaling.low_freq_factor", scaling.low_freq_factor(), 1e-6f, kMaxFactor));
  // Their difference is divided by.
  return InRange(in + "scaling.high_freq_factor", scaling.high_freq_factor(),
                 std::nextafter(scaling.low_freq_factor(), 2e6f), kMaxFactor);
}

absl::Status CheckKinds(const v1::Architecture& arch) {
  TESSERA_RETURN_IF_ERROR(InRange("layer_kinds (their number)", int64_t{arch.layer_kinds_size()},
                                  1, arch.num_layers()));
  for (int i = 0; i < arch.layer_kinds_size(); ++i) {
    const v1::LayerConfig& kind = arch.layer_kinds(i);
    const std::string where = absl::StrCat("layer_kinds[", i, "].");
    TESSERA_RETURN_IF_ERROR(CheckAttention(kind.attention(), where));
    TESSERA_RETURN_IF_ERROR(CheckFeedForward(kind.feed_forward(), where));
    TESSERA_RETURN_IF_ERROR(CheckNorms(kind, where));
    TESSERA_RETURN_IF_ERROR(CheckServed(kind, where));
    if (!kind.attention().has_rope()) continue;
    TESSERA_RETURN_IF_ERROR(CheckRope(kind.attention(), where));
  }
  if (arch.layer_kind_of().empty()) return absl::OkStatus();
  TESSERA_RETURN_IF_ERROR(InRange("layer_kind_of (their number)",
                                  int64_t{arch.layer_kind_of_size()}, arch.num_layers(),
                                  arch.num_layers()));
  for (const int32_t kind : arch.layer_kind_of()) {
    TESSERA_RETURN_IF_ERROR(
        InRange("layer_kind_of", int64_t{kind}, 0, arch.layer_kinds_size() - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const v1::TensorDescription& tensor, const ExpectedTensor& expected) {
  const auto error = [&](const std::string& what) { return wire::FieldError(tensor.name(), what); };
  if (!std::equal(tensor.shape().begin(), tensor.shape().end(), expected.shape.begin(),
                  expected.shape.end())) {
    return error(absl::StrCat("has shape (", absl::StrJoin(tensor.shape(), ", "), "); expected (",
                              absl::StrJoin(expected.shape, ", "), ")"));
  }
  if (tensor.axis() != expected.axis) {
    return error(absl::StrCat("has shard axis ", static_cast<int>(tensor.axis()), "; expected ",
                              AxisName(expected.axis)));
  }
  if (tensor.layer() != expected.layer) {
    return error(absl::StrCat("is of layer ", tensor.layer(), "; expected ", expected.layer));
  }
  if (!v1::DataType_IsValid(tensor.type()) || tensor.type() == v1::DATA_TYPE_UNSPECIFIED) {
    return error(absl::StrCat("has unknown type ", static_cast<int>(tensor.type())));
  }
  int64_t elements = 1;
  for (const int64_t dimension : expected.shape) elements *= dimension;
  // Between half a byte and a float for each element.
  const int64_t least = (elements + 1) / 2;
  if (tensor.resident_bytes() < least || tensor.resident_bytes() > 4 * elements) {
    return error(absl::StrCat("occupies ", tensor.resident_bytes(), " bytes; expected ", least,
                              " .. ", 4 * elements));
  }
  return absl::OkStatus();
}

absl::Status CheckTensors(const v1::ModelDescription& model) {
  std::map<std::string, const v1::TensorDescription*> by_name;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (!by_name.emplace(tensor.name(), &tensor).second) {
      return wire::FieldError(tensor.name(), "is in the description twice");
    }
  }
  for (const ExpectedTensor& expected : ExpectedTensors(model.architecture())) {
    const auto found = by_name.find(expected.name);
    if (found == by_name.end()) {
      return wire::FieldError(
          expected.name,
          absl::StrCat("is missing; expected shape (", absl::StrJoin(expected.shape, ", "), ")"));
    }
    TESSERA_RETURN_IF_ERROR(CheckTensor(*found->second, expected));
    by_name.erase(found);
  }
  if (by_name.empty()) return absl::OkStatus();
  return wire::FieldError(by_name.begin()->first, "is no tensor of this architecture");
}

}  // namespace

absl::Status CheckArchitecture(const v1::Architecture& arch) {
  TESSERA_RETURN_IF_ERROR(CheckSizes(arch));
  TESSERA_RETURN_IF_ERROR(InRange("rms_norm_eps", arch.rms_norm_eps(), 0.0f, 1.0f));
  TESSERA_RETURN_IF_ERROR(
      InRange("embedding_multiplier", arch.embedding_multiplier(), -kMaxFactor, kMaxFactor));
  TESSERA_RETURN_IF_ERROR(InRange("logit_scale", arch.logit_scale(), -kMaxFactor, kMaxFactor));
  return CheckKinds(arch);
}

absl::Status CheckDescription(const v1::ModelDescription& model) {
  TESSERA_RETURN_IF_ERROR(CheckArchitecture(model.architecture()));
  // As many as there should be, before a table is built for all of them.
  return CheckTensors(model);
}

}  // namespace tessera::model
