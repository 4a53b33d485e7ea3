// Whether a plan fits a model and the ranks there are: checked by the planner before it hands out a
// plan, and by every rank before it believes one.
//
// Pure. Threads: any.
//
//   TESSERA_RETURN_IF_ERROR(model::CheckPlan(description, plan, world_rank, world_size));
#ifndef TESSERA_PROTO_MODEL_CHECK_PLAN_H_
#define TESSERA_PROTO_MODEL_CHECK_PLAN_H_

#include "absl/status/status.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::model {

// Sizes agree, every rank sits where its index says, and on every stage the query heads, FFN columns
// and vocabulary rows are dealt out completely and once; layers over the stages alike.
// INVALID_ARGUMENT naming rank, field, expected and actual.
absl::Status CheckPlan(const v1::ModelDescription& model, const v1::ShardPlan& plan, int world_rank,
                       int world_size);

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_CHECK_PLAN_H_
