// Summaries of samples. Pure.
//
//   Summary ttft = Summarize(std::move(seconds));    // ttft.p99
#ifndef TESSERA_BENCHMARKS_SERVING_STATISTICS_H_
#define TESSERA_BENCHMARKS_SERVING_STATISTICS_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace tessera::benchmarks {

// All zero when there is no sample.
struct Summary {
  size_t count = 0;
  double mean = 0.0;
  double p50 = 0.0;
  double p95 = 0.0;
  double p99 = 0.0;
  double max = 0.0;
};

// Linear between the two nearest ranks, as numpy.percentile. `sorted` holds at least one value;
// quantile 0 .. 1.
double Quantile(absl::Span<const double> sorted, double quantile);

Summary Summarize(std::vector<double> values);

// Points (value, share of samples <= value), rising to 1; at most `max_points`, ends kept.
std::vector<std::pair<double, double>> CumulativeShare(std::vector<double> values,
                                                       size_t max_points);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_STATISTICS_H_
