#include "worker/model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

absl::Status Positive(double value, absl::string_view field) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rope ", field, ": expected a positive number, got ", value));
}

double OrElse(double value, double fallback) { return value != 0 ? value : fallback; }

double OriginalPositions(const v1::RopeScaling& scaling, int max_positions) {
  return OrElse(scaling.original_max_positions(), max_positions);
}

// Long wavelengths are stretched by `factor`, short ones kept, those between blended.
absl::Status ApplyLlama3(const v1::RopeScaling& scaling, int max_positions,
                         std::vector<double>& per_position) {
  const double low = scaling.low_freq_factor(), high = scaling.high_freq_factor();
  const double factor = scaling.factor();
  const double original = OriginalPositions(scaling, max_positions);
  TESSERA_RETURN_IF_ERROR(Positive(factor, "factor"));
  TESSERA_RETURN_IF_ERROR(Positive(low, "low_freq_factor"));
  TESSERA_RETURN_IF_ERROR(Positive(high - low, "high_freq_factor - low_freq_factor"));
  TESSERA_RETURN_IF_ERROR(Positive(original, "original_max_positions"));
  for (double& angle : per_position) {
    const double wavelength = kTwoPi / angle;
    if (wavelength < original / high) continue;
    if (wavelength > original / low) {
      angle /= factor;
      continue;
    }
    const double smooth = (original / wavelength - low) / (high - low);
    angle = (1 - smooth) * angle / factor + smooth * angle;
  }
  return absl::OkStatus();
}

// YaRN (https://arxiv.org/abs/2309.00071): pairs that turn often within the original context keep
// their angle, pairs that turn rarely are stretched, a linear ramp between.
absl::Status ApplyYarn(const v1::RopeConfig& rope, int rotary_dim, int max_positions,
                       RopeAngles& angles) {
  const v1::RopeScaling& scaling = rope.scaling();
  const double dim = rotary_dim, factor = scaling.factor();
  const double original = OriginalPositions(scaling, max_positions);
  TESSERA_RETURN_IF_ERROR(Positive(factor, "factor"));
  TESSERA_RETURN_IF_ERROR(Positive(original, "original_max_positions"));
  TESSERA_RETURN_IF_ERROR(Positive(std::log(rope.theta()), "log(theta)"));

  // The (fractional) pair that makes `turns` turns over the original context.
  auto pair_of_turns = [&](double turns) {
    return dim * std::log(original / (turns * kTwoPi)) / (2 * std::log(rope.theta()));
  };
  const double low = std::max(std::floor(pair_of_turns(OrElse(scaling.beta_fast(), 32))), 0.0);
  double high = std::min(std::ceil(pair_of_turns(OrElse(scaling.beta_slow(), 1))), dim - 1);
  if (low == high) high += 0.001;
  for (size_t pair = 0; pair < angles.per_position.size(); ++pair) {
    const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
    double& angle = angles.per_position[pair];
    angle = angle / factor * ramp + angle * (1 - ramp);
  }
  const double by_factor = factor > 1 ? 0.1 * std::log(factor) + 1 : 1;
  angles.magnitude = OrElse(scaling.attention_factor(), by_factor);
  return absl::OkStatus();
}

absl::Status ApplyFrequencyFactors(const v1::RopeScaling& scaling,
                                   std::vector<double>& per_position) {
  if (static_cast<size_t>(scaling.frequency_factors_size()) != per_position.size()) {
    return absl::InvalidArgumentError(absl::StrCat("rope frequency_factors: expected ",
                                                   per_position.size(), " values, got ",
                                                   scaling.frequency_factors_size()));
  }
  for (size_t pair = 0; pair < per_position.size(); ++pair) {
    TESSERA_RETURN_IF_ERROR(Positive(scaling.frequency_factors(pair), "frequency_factors"));
    per_position[pair] /= scaling.frequency_factors(pair);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RopeAngles> ComputeRopeAngles(const v1::RopeConfig& rope, int rotary_dim,
                                             int max_positions) {
  TESSERA_RETURN_IF_ERROR(Positive(rope.theta(), "theta"));
  RopeAngles angles;
  const int pairs = rotary_dim / 2;
  for (int pair = 0; pair < pairs; ++pair) {
    angles.per_position.push_back(
        std::pow(static_cast<double>(rope.theta()), -2.0 * pair / rotary_dim));
  }
  const v1::RopeScaling& scaling = rope.scaling();
  switch (scaling.kind()) {
    case v1::RopeScaling::KIND_NONE:
      break;
    case v1::RopeScaling::KIND_LINEAR:
      TESSERA_RETURN_IF_ERROR(Positive(scaling.factor(), "factor"));
      for (double& angle : angles.per_position) angle /= scaling.factor();
      break;
    case v1::RopeScaling::KIND_LLAMA3:
      TESSERA_RETURN_IF_ERROR(ApplyLlama3(scaling, max_positions, angles.per_position));
      break;
    case v1::RopeScaling::KIND_YARN:
      TESSERA_RETURN_IF_ERROR(ApplyYarn(rope, rotary_dim, max_positions, angles));
      break;
    case v1::RopeScaling::KIND_FREQUENCY_FACTORS:
      TESSERA_RETURN_IF_ERROR(ApplyFrequencyFactors(scaling, angles.per_position));
      break;
    default:
      return absl::UnimplementedError(
          absl::StrCat("rope scaling kind ", static_cast<int>(scaling.kind())));
  }
  return angles;
}

void FillRopeTable(const RopeAngles& angles, absl::Span<const int32_t> positions, float* cos,
                   float* sin) {
  for (const int32_t position : positions) {
    for (const double per_position : angles.per_position) {
      const double angle = position * per_position;
      *cos++ = static_cast<float>(std::cos(angle) * angles.magnitude);
      *sin++ = static_cast<float>(std::sin(angle) * angles.magnitude);
    }
  }
}

}  // namespace tessera::worker
