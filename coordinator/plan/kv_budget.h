// How many KV blocks a rank gets and how long a sequence may be.
//
//   TESSERA_RETURN_IF_ERROR(PlanKvCache(arch, layout, &plan));   // the ranks are already planned
#ifndef TESSERA_COORDINATOR_PLAN_KV_BUDGET_H_
#define TESSERA_COORDINATOR_PLAN_KV_BUDGET_H_

#include "absl/status/status.h"
#include "coordinator/plan/shard_planner.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

// Bytes for KV on a rank when no budget is given, unless one sequence of max_model_len needs more.
inline constexpr int64_t kDefaultKvBytes = int64_t{1} << 30;
// The most that one sequence may claim without a budget.
inline constexpr int64_t kMaxDefaultKvBytes = int64_t{4} << 30;

// Fills in max_model_len, num_kv_blocks and kv_block_tokens of `plan` from its ranks'
// kv_bytes_per_token and the layout; see Layout for the rules. Errors name the flag.
absl::Status PlanKvCache(const v1::Architecture& arch, const Layout& layout, v1::ShardPlan* plan);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_KV_BUDGET_H_
