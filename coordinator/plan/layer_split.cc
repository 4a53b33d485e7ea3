#include "coordinator/plan/layer_split.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace tessera::coordinator {
namespace {

// stages_needed[i]: the fewest stages that hold layers i and on with none above `limit`; the last
// entry, behind all layers, is 0. Needs limit >= every single cost.
std::vector<int> StagesNeeded(const std::vector<int64_t>& costs, int64_t limit) {
  const int layers = static_cast<int>(costs.size());
  std::vector<int> needed(costs.size() + 1, 0);
  int64_t sum = 0;
  int end = layers;  // the stage that starts at i reaches at most up to here
  for (int i = layers - 1; i >= 0; --i) {
    sum += costs[static_cast<size_t>(i)];
    while (sum > limit) sum -= costs[static_cast<size_t>(--end)];
    needed[static_cast<size_t>(i)] = 1 + needed[static_cast<size_t>(end)];
  }
  return needed;
}

// Bisection over the answer: whether a limit suffices is monotone, and costs are whole numbers.
int64_t SmallestLimit(const std::vector<int64_t>& costs, int stages) {
  int64_t low = 0;
  int64_t high = 0;
  for (const int64_t cost : costs) {
    low = std::max(low, cost);
    high += cost;
  }
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (StagesNeeded(costs, middle)[0] <= stages) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

std::vector<Span> SplitByCost(const std::vector<int64_t>& costs, int stages) {
  const int layers = static_cast<int>(costs.size());
  const int64_t limit = SmallestLimit(costs, stages);
  const std::vector<int> needed = StagesNeeded(costs, limit);
  int64_t remaining = 0;
  for (const int64_t cost : costs) remaining += cost;
  std::vector<Span> spans;
  int begin = 0;
  for (int left = stages; left > 0; --left) {
    const int64_t mean = remaining / left;
    int best_end = layers;
    int64_t best_sum = remaining;
    int64_t sum = 0;
    // The other stages need a layer each, and must be able to hold what this one leaves.
    for (int end = begin + 1; left > 1 && end <= layers - (left - 1); ++end) {
      sum += costs[static_cast<size_t>(end) - 1];
      if (sum > limit) break;
      if (needed[static_cast<size_t>(end)] > left - 1) continue;
      if (best_end == layers || std::abs(sum - mean) < std::abs(best_sum - mean)) {
        best_end = end;
        best_sum = sum;
      }
    }
    spans.push_back({begin, best_end});
    begin = best_end;
    remaining -= best_sum;
  }
  return spans;
}

}  // namespace tessera::coordinator
