// Who owns what: a ModelDescription and a layout → a ShardPlan. Pure.
//
//   Layout layout{.tensor_parallel = 2, .pipeline_parallel = 2};
//   TESSERA_ASSIGN_OR_RETURN(v1::ShardPlan plan, PlanShards(model, layout));
#ifndef TESSERA_COORDINATOR_PLAN_SHARD_PLANNER_H_
#define TESSERA_COORDINATOR_PLAN_SHARD_PLANNER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

struct Layout {
  int tensor_parallel = 1;
  int pipeline_parallel = 1;
  std::vector<double> tensor_split = {};  // weights per tp_rank; empty = even
  std::vector<int> layer_split = {};  // layers per stage, must sum to num_layers; empty = by cost
  // Tokens of one sequence, at most the model's max_positions. 0 = the model's own, or as many as
  // the KV budget (without one: 4 GiB on a rank) holds if those are fewer.
  int max_model_len = 0;
  int kv_block_tokens = 16;
  // Bytes for KV on each rank; the smallest number of blocks over the ranks serves all, and may
  // hold less than one sequence of max_model_len (the scheduler ends sequences that outgrow it).
  // 0 = what max_sequences_per_step sequences of max_model_len need, but at most 1 GiB; yet always
  // one whole sequence, which may take up to 4 GiB.
  int64_t kv_bytes_per_rank = 0;
  // What keys and values are kept as: F32 or BF16. Unspecified: F32 where all matrices are, so that
  // nothing is rounded that the model did not round; else BF16, at half the bytes.
  v1::DataType kv_type = v1::DATA_TYPE_UNSPECIFIED;
  // Bytes of each rank's GPU that nobody uses yet, by world rank, and which part of them the rank may
  // take. They decide the number of blocks where kv_bytes_per_rank does not: what the weights leave.
  // Empty: no GPUs.
  std::vector<int64_t> free_memory_bytes = {};
  double gpu_memory_utilization = 0.9;
  int max_tokens_per_step = 512;
  int max_sequences_per_step = 64;
};

// INVALID_ARGUMENT naming the flag and the allowed range: -tp above the number of heads (or below
// 1), -pp above the number of layers, a tensor split of the wrong length or with a weight that is
// not positive and finite, a layer split that does not sum or has an empty stage, an FFN with fewer
// granules than ranks, a KV budget below one block per rank, a max_model_len above what the model
// or the memory can hold; what model::CheckDescription says of the description. Every rank gets at
// least one query head, one FFN granule and one vocabulary row. Whatever it plans, every rank accepts
// (model::CheckPlan).
absl::StatusOr<v1::ShardPlan> PlanShards(const v1::ModelDescription& model, const Layout& layout);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_SHARD_PLANNER_H_
