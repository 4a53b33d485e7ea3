// How many tokens a prompt or an answer has. Immutable; any thread.
//
//   fixed:128                   always 128
//   uniform:16-256              every length in the range alike, ends included
//   lognormal:200,0.8[,2048]    mean 200 tokens, sigma 0.8 of the logarithm, cut at 2048
//   file:PATH                   a histogram: lines "LENGTH WEIGHT", # begins a comment
//
//   TESSERA_ASSIGN_OR_RETURN(auto lengths, LengthDistribution::Parse("uniform:16-256"));
//   int tokens = lengths.Draw(random);
#ifndef TESSERA_BENCHMARKS_SERVING_LENGTH_DISTRIBUTION_H_
#define TESSERA_BENCHMARKS_SERVING_LENGTH_DISTRIBUTION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/serving/random.h"

namespace tessera::benchmarks {

inline constexpr int kMaxTokens = 1'000'000;  // of one prompt or answer

class LengthDistribution {
 public:
  // INVALID_ARGUMENT naming what is wrong with `spec`; NOT_FOUND for a file that cannot be read.
  static absl::StatusOr<LengthDistribution> Parse(absl::string_view spec);
  // `text` is a histogram file's content, `source` its name in errors.
  static absl::StatusOr<LengthDistribution> FromHistogram(absl::string_view text,
                                                          absl::string_view source);

  int Draw(Random& random) const;  // 1 .. kMaxTokens
  const std::string& spec() const { return spec_; }

 private:
  enum class Kind { kUniform, kLognormal, kHistogram };

  LengthDistribution() = default;
  static absl::StatusOr<LengthDistribution> ParseLognormal(absl::string_view rest);

  Kind kind_ = Kind::kUniform;
  std::string spec_;
  int low_ = 1, high_ = 1;         // uniform; lognormal is cut to 1 .. high_
  double mu_ = 0.0, sigma_ = 0.0;  // of the logarithm
  std::vector<int> lengths_;       // histogram, with
  std::vector<double> upto_;       // the weight up to and including each length
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_LENGTH_DISTRIBUTION_H_
