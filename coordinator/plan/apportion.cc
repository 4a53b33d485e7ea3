#include "coordinator/plan/apportion.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace tessera::coordinator {
namespace {

// Hands the units that rounding down left over to the largest remainders.
void GiveLeftovers(int units, const std::vector<double>& quotas, std::vector<int>* counts) {
  std::vector<size_t> order(quotas.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return quotas[a] - (*counts)[a] > quotas[b] - (*counts)[b];
  });
  int left = units - std::accumulate(counts->begin(), counts->end(), 0);
  for (size_t i = 0; left > 0; ++i, --left) ++(*counts)[order[i % order.size()]];
}

// Nobody goes empty: the rank furthest above its share pays.
void FillEmpty(const std::vector<double>& quotas, std::vector<int>* counts) {
  for (int& count : *counts) {
    if (count > 0) continue;
    size_t donor = counts->size();
    for (size_t i = 0; i < counts->size(); ++i) {
      if ((*counts)[i] < 2) continue;
      if (donor == counts->size() || (*counts)[i] - quotas[i] > (*counts)[donor] - quotas[donor]) {
        donor = i;
      }
    }
    --(*counts)[donor];
    ++count;
  }
}

}  // namespace

std::vector<double> EvenWeights(int ranks) {
  return std::vector<double>(static_cast<size_t>(ranks), 1.0);
}

// Scaled by the largest weight first, so that no sum overflows.
std::vector<double> Shares(const std::vector<double>& weights) {
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (const double weight : weights) sum += weight / largest;
  std::vector<double> shares;
  shares.reserve(weights.size());
  for (const double weight : weights) shares.push_back(weight / largest / sum);
  return shares;
}

std::vector<Span> Apportion(int units, const std::vector<double>& weights) {
  std::vector<double> quotas = Shares(weights);
  for (double& quota : quotas) quota *= units;
  std::vector<int> counts;
  counts.reserve(quotas.size());
  for (const double quota : quotas) counts.push_back(static_cast<int>(std::floor(quota)));
  GiveLeftovers(units, quotas, &counts);
  FillEmpty(quotas, &counts);
  std::vector<Span> spans;
  spans.reserve(counts.size());
  int begin = 0;
  for (const int count : counts) {
    spans.push_back({begin, begin + count});
    begin += count;
  }
  return spans;
}

}  // namespace tessera::coordinator
