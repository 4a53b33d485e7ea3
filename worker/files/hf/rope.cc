#include "worker/files/hf/rope.h"

#include <cmath>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {
namespace {

constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

absl::StatusOr<float> RequiredNumber(const ConfigReader& read, const char* key, double min,
                                     double max) {
  TESSERA_ASSIGN_OR_RETURN(const auto value, read.OptionalNumber(key, min, max));
  if (!value) return FileError(read.where(), absl::StrCat(key, ": expected a number, found none"));
  return static_cast<float>(*value);
}

absl::Status ParseLlama3(const ConfigReader& read, v1::RopeScaling* scaling) {
  scaling->set_kind(v1::RopeScaling::KIND_LLAMA3);
  TESSERA_ASSIGN_OR_RETURN(const float factor, RequiredNumber(read, "factor", 1, kMaxFactor));
  TESSERA_ASSIGN_OR_RETURN(const float low,
                           RequiredNumber(read, "low_freq_factor", 1e-6, kMaxFactor));
  TESSERA_ASSIGN_OR_RETURN(const float high,
                           RequiredNumber(read, "high_freq_factor", 1e-6, kMaxFactor));
  TESSERA_ASSIGN_OR_RETURN(const int64_t original,
                           read.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (!(high > low)) {
    return FileError(read.where(), absl::StrCat("high_freq_factor: expected above low_freq_factor ",
                                                low, ", found ", high));
  }
  scaling->set_factor(factor);
  scaling->set_low_freq_factor(low);
  scaling->set_high_freq_factor(high);
  scaling->set_original_max_positions(static_cast<int>(original));
  return absl::OkStatus();
}

// 0.1 m ln(factor) + 1, yarn's growth of the attention temperature.
double YarnScale(double factor, double m) {
  return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
}

absl::Status ParseYarn(const ConfigReader& read, int max_positions, v1::RopeScaling* scaling) {
  scaling->set_kind(v1::RopeScaling::KIND_YARN);
  TESSERA_ASSIGN_OR_RETURN(const bool truncate, read.BoolOr("truncate", true));
  if (!truncate) return UnsupportedError(read.where(), "truncate false; supported: true");
  TESSERA_ASSIGN_OR_RETURN(
      const int64_t original,
      read.IntOr("original_max_position_embeddings", 1, kMaxPositions, max_positions));
  TESSERA_ASSIGN_OR_RETURN(
      const double factor,
      read.NumberOr("factor", 1, kMaxFactor, static_cast<double>(max_positions) /
                                                 static_cast<double>(original)));
  TESSERA_ASSIGN_OR_RETURN(const auto attention,
                           read.OptionalNumber("attention_factor", 1e-6, kMaxFactor));
  TESSERA_ASSIGN_OR_RETURN(const double mscale, read.NumberOr("mscale", 0, kMaxFactor, 0));
  TESSERA_ASSIGN_OR_RETURN(const double mscale_all,
                           read.NumberOr("mscale_all_dim", 0, kMaxFactor, 0));
  TESSERA_ASSIGN_OR_RETURN(const double fast, read.NumberOr("beta_fast", 0, kMaxFactor, 32));
  TESSERA_ASSIGN_OR_RETURN(const double slow, read.NumberOr("beta_slow", 0, kMaxFactor, 1));
  scaling->set_factor(static_cast<float>(factor));
  scaling->set_original_max_positions(static_cast<int>(original));
  if (attention) {
    scaling->set_attention_factor(static_cast<float>(*attention));
  } else if (mscale > 0 && mscale_all > 0) {
    scaling->set_attention_factor(
        static_cast<float>(YarnScale(factor, mscale) / YarnScale(factor, mscale_all)));
  }
  scaling->set_beta_fast(static_cast<float>(fast > 0 ? fast : 32));
  scaling->set_beta_slow(static_cast<float>(slow > 0 ? slow : 1));
  return absl::OkStatus();
}

absl::Status ParseScaling(const ConfigReader& read, const Family& family, int max_positions,
                          v1::RopeScaling* scaling) {
  TESSERA_ASSIGN_OR_RETURN(const auto rope_type, read.OptionalString("rope_type"));
  TESSERA_ASSIGN_OR_RETURN(const auto old_type, read.OptionalString("type"));
  const std::string type = rope_type.value_or(old_type.value_or("default"));
  if (type == "default") return absl::OkStatus();
  if (family.only_longrope) {
    return UnsupportedError(read.where(), absl::StrCat("rope type ", Printable(type),
                                                       " (longrope); supported: default"));
  }
  if (type == "linear") {
    scaling->set_kind(v1::RopeScaling::KIND_LINEAR);
    TESSERA_ASSIGN_OR_RETURN(const float factor, RequiredNumber(read, "factor", 1, kMaxFactor));
    scaling->set_factor(factor);
    return absl::OkStatus();
  }
  if (type == "llama3") return ParseLlama3(read, scaling);
  if (type == "yarn") return ParseYarn(read, max_positions, scaling);
  return UnsupportedError(read.where(), absl::StrCat("rope type ", Printable(type),
                                                     "; supported: default, linear, llama3, yarn"));
}

// Elements of a head that turn; 0: all.
absl::StatusOr<int> RotaryDim(const ConfigReader& read, const Family& family, int64_t head_dim,
                              int absent) {
  TESSERA_ASSIGN_OR_RETURN(const auto share, read.OptionalNumber("partial_rotary_factor", 0, 1e6));
  if (!share) return absent;
  if (*share == 1) return 0;
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * *share);
  if (family.partial_rotary && *share < 1 && dim >= 2 && dim % 2 == 0) {
    return static_cast<int>(dim);
  }
  return UnsupportedError(
      read.where(),
      absl::StrCat("partial_rotary_factor ", *share, "; supported: 1",
                   family.partial_rotary ? ", and parts of a head of an even number of elements"
                                         : ""));
}

}  // namespace

absl::StatusOr<v1::RopeConfig> ParseHfRope(const ConfigReader& read, const Family& family,
                                           const ModelNumbers& numbers) {
  v1::RopeConfig rope;
  rope.set_pairing(v1::ROPE_PAIRING_HALF_SPLIT);
  rope.mutable_scaling();
  TESSERA_ASSIGN_OR_RETURN(int rotary_dim, RotaryDim(read, family, numbers.head_dim, 0));
  TESSERA_ASSIGN_OR_RETURN(double theta,
                           read.NumberOr("rope_theta", 1, 1e20, family.default_rope_theta));
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* parameters = read.Member(key);
    if (parameters == nullptr) continue;
    const ConfigReader nested(absl::StrCat(read.where(), ": ", key), *parameters);
    if (!parameters->is_object()) {
      return FileError(nested.where(),
                       absl::StrCat("expected an object, found ", PrintableJson(*parameters)));
    }
    for (const Json& value : *parameters) {
      if (value.is_object()) {
        return UnsupportedError(nested.where(), "parameters per layer type; supported: one for all");
      }
    }
    TESSERA_ASSIGN_OR_RETURN(rotary_dim, RotaryDim(nested, family, numbers.head_dim, rotary_dim));
    TESSERA_ASSIGN_OR_RETURN(theta, nested.NumberOr("rope_theta", 1, 1e20, theta));
    TESSERA_RETURN_IF_ERROR(ParseScaling(nested, family, static_cast<int>(numbers.max_positions),
                                         rope.mutable_scaling()));
    break;
  }
  rope.set_theta(static_cast<float>(theta));
  rope.set_rotary_dim(rotary_dim);
  return rope;
}

}  // namespace tessera::worker
