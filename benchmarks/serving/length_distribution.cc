#include "benchmarks/serving/length_distribution.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "benchmarks/serving/read_file.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

absl::Status BadSpec(absl::string_view spec, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "length distribution '", spec, "': ", why,
      "; expected fixed:N, uniform:A-B, lognormal:MEAN,SIGMA[,MAX] or file:PATH, lengths 1 .. ",
      kMaxTokens));
}

bool ParseLength(absl::string_view text, int& length) {
  return absl::SimpleAtoi(text, &length) && length >= 1 && length <= kMaxTokens;
}

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(absl::string_view spec) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(spec, absl::MaxSplits(':', 1));
  const auto [kind, rest] = parts;
  LengthDistribution lengths;
  if (kind == "fixed") {
    if (!ParseLength(rest, lengths.low_)) return BadSpec(spec, "no such length");
    lengths.high_ = lengths.low_;
  } else if (kind == "uniform") {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(rest, absl::MaxSplits('-', 1));
    if (!ParseLength(ends.first, lengths.low_) || !ParseLength(ends.second, lengths.high_) ||
        lengths.low_ > lengths.high_) {
      return BadSpec(spec, "no such range");
    }
  } else if (kind == "lognormal") {
    auto parsed = ParseLognormal(rest);
    if (!parsed.ok()) return BadSpec(spec, parsed.status().message());
    lengths = *std::move(parsed);
  } else if (kind == "file") {
    TESSERA_ASSIGN_OR_RETURN(const std::string text, ReadFile(std::string(rest)));
    TESSERA_ASSIGN_OR_RETURN(lengths, FromHistogram(text, rest));
  } else {
    return BadSpec(spec, "unknown kind");
  }
  lengths.spec_ = std::string(spec);
  return lengths;
}

absl::StatusOr<LengthDistribution> LengthDistribution::ParseLognormal(absl::string_view rest) {
  const std::vector<absl::string_view> numbers = absl::StrSplit(rest, ',');
  LengthDistribution lengths;
  lengths.kind_ = Kind::kLognormal;
  lengths.high_ = kMaxTokens;
  double mean = 0.0;
  if (numbers.size() < 2 || numbers.size() > 3 || !absl::SimpleAtod(numbers[0], &mean) ||
      !absl::SimpleAtod(numbers[1], &lengths.sigma_)) {
    return absl::InvalidArgumentError("expected two or three numbers");
  }
  if (!(mean >= 1.0 && mean <= kMaxTokens)) return absl::InvalidArgumentError("no such mean");
  if (!(lengths.sigma_ >= 0.0 && lengths.sigma_ <= 10.0)) {
    return absl::InvalidArgumentError("sigma is not within 0 .. 10");
  }
  if (numbers.size() == 3 && !ParseLength(numbers[2], lengths.high_)) {
    return absl::InvalidArgumentError("no such maximum");
  }
  // The mean of a lognormal variable is exp(mu + sigma^2 / 2).
  lengths.mu_ = std::log(mean) - lengths.sigma_ * lengths.sigma_ / 2.0;
  return lengths;
}

absl::StatusOr<LengthDistribution> LengthDistribution::FromHistogram(absl::string_view text,
                                                                     absl::string_view source) {
  LengthDistribution lengths;
  lengths.kind_ = Kind::kHistogram;
  lengths.spec_ = absl::StrCat("file:", source);
  double total = 0.0;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = line.substr(0, line.find('#'));
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r,"), absl::SkipEmpty());
    if (words.empty()) continue;
    int length = 0;
    double weight = 0.0;
    if (words.size() != 2 || !ParseLength(words[0], length) ||
        !absl::SimpleAtod(words[1], &weight) || !(weight >= 0.0 && std::isfinite(weight))) {
      return absl::InvalidArgumentError(absl::StrCat(source, ":", line_number, ": '", line,
                                                     "'; expected LENGTH WEIGHT, length 1 .. ",
                                                     kMaxTokens, ", weight 0 or more"));
    }
    if (weight == 0.0) continue;
    total += weight;
    lengths.lengths_.push_back(length);
    lengths.upto_.push_back(total);
  }
  if (lengths.lengths_.empty() || !std::isfinite(total)) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": no length with a weight; expected lines LENGTH WEIGHT"));
  }
  return lengths;
}

int LengthDistribution::Draw(Random& random) const {
  switch (kind_) {
    case Kind::kUniform:
      return low_ + static_cast<int>(random.Below(high_ - low_ + 1));
    case Kind::kLognormal: {
      const double drawn = std::round(std::exp(mu_ + sigma_ * random.Normal()));
      return static_cast<int>(std::clamp(drawn, 1.0, static_cast<double>(high_)));
    }
    case Kind::kHistogram:
      break;
  }
  const double at = random.Uniform() * upto_.back();
  const auto found = std::upper_bound(upto_.begin(), upto_.end(), at);
  const size_t index = std::min<size_t>(found - upto_.begin(), lengths_.size() - 1);
  return lengths_[index];
}

}  // namespace tessera::benchmarks
