// What clients are shown of a plan: the plan's words, in the public messages.
//
//   *status.mutable_shard() = RankPartOf(plan.ranks(0));
#ifndef TESSERA_COORDINATOR_PLAN_RANK_PART_H_
#define TESSERA_COORDINATOR_PLAN_RANK_PART_H_

#include "tessera/v1/inference.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

v1::RankPart RankPartOf(const v1::RankShard& shard);

v1::RankTimes RankTimesOf(const v1::StepTimes& times);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_RANK_PART_H_
