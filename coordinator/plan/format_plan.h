// A plan as people read it.
//
//   std::cout << FormatPlan(model, plan);
#ifndef TESSERA_COORDINATOR_PLAN_FORMAT_PLAN_H_
#define TESSERA_COORDINATOR_PLAN_FORMAT_PLAN_H_

#include <string>

#include "absl/types/span.h"
#include "tessera/v1/inference.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

// The cluster map for people: one line per rank with stage, layers, query heads, KV heads, FFN
// columns, vocabulary rows, MB of weights and MB of KV per 1,000 tokens. Plain ASCII table.
std::string FormatPlan(const v1::ModelDescription& model, const v1::ShardPlan& plan);

// Its rows for these ranks alone, as clients are shown them, under the same heading.
std::string FormatShards(absl::Span<const v1::RankPart* const> shards);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_FORMAT_PLAN_H_
