#include "benchmarks/serving/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tessera::benchmarks {

double Quantile(absl::Span<const double> sorted, double quantile) {
  const double at = quantile * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = at - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.count = values.size(),
          .mean = std::accumulate(values.begin(), values.end(), 0.0) /
                  static_cast<double>(values.size()),
          .p50 = Quantile(values, 0.50),
          .p95 = Quantile(values, 0.95),
          .p99 = Quantile(values, 0.99),
          .max = values.back()};
}

std::vector<std::pair<double, double>> CumulativeShare(std::vector<double> values,
                                                       size_t max_points) {
  std::vector<std::pair<double, double>> points;
  if (values.empty() || max_points == 0) return points;
  std::sort(values.begin(), values.end());
  const size_t count = values.size();
  const size_t wanted = std::min(count, max_points);
  for (size_t i = 0; i < wanted; ++i) {
    // The last point is the largest value, the first the smallest where more than one fits.
    const size_t index = wanted == 1 ? count - 1 : i * (count - 1) / (wanted - 1);
    points.emplace_back(values[index], static_cast<double>(index + 1) / static_cast<double>(count));
  }
  return points;
}

}  // namespace tessera::benchmarks
