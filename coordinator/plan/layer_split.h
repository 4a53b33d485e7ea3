// Dividing the layers among pipeline stages so that the slowest stage is as fast as can be.
//
//   SplitByCost({1, 1, 1, 1, 4}, 2)      // [0, 4) [4, 5)
#ifndef TESSERA_COORDINATOR_PLAN_LAYER_SPLIT_H_
#define TESSERA_COORDINATOR_PLAN_LAYER_SPLIT_H_

#include <cstdint>
#include <vector>

#include "coordinator/plan/apportion.h"

namespace tessera::coordinator {

// Consecutive non-empty spans that cover all layers, one per stage. The largest sum of costs over
// the stages is the smallest possible; among such splits, stages stay near the mean. What belongs
// to the first or last stage whatever the split (embedding, output head) is added to the first or
// last layer's cost by the caller. Needs costs.size() >= stages >= 1, costs >= 0, and a total that
// fits int64.
std::vector<Span> SplitByCost(const std::vector<int64_t>& costs, int stages);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_LAYER_SPLIT_H_
