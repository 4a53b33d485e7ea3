// Which part of each tensor a rank holds: pure functions from the plan and the tensor table.
//
// No file, no device, no cluster: everything here is tested as arithmetic. Threads: any.
//
//   TESSERA_RETURN_IF_ERROR(model::CheckPlan(file.description(), plan, world_rank, world_size));
//   std::optional<TensorSlice> slice = SliceOf(plan.ranks(world_rank), tensor, arch);
//   if (slice) file.ReadSlice(tensor.name(), slice->row_begin, slice->row_end, ...);
#ifndef TESSERA_WORKER_MODEL_SHARD_SLICES_H_
#define TESSERA_WORKER_MODEL_SHARD_SLICES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/tensor.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::worker {

// Rows [row_begin, row_end) × columns [col_begin, col_end) of a tensor, as it lies in memory.
// 1-dimensional tensors are one row.
struct TensorSlice {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;
  kernels::DType dtype = kernels::DType::kF32;  // the resident type
  size_t bytes = 0;                             // exactly what ReadSlice writes

  int64_t rows() const { return row_end - row_begin; }
  int64_t cols() const { return col_end - col_begin; }
};

// What `shard` holds of `tensor`; nullopt when nothing. The plan must have passed CheckPlan.
std::optional<TensorSlice> SliceOf(const v1::RankShard& shard, const v1::TensorDescription& tensor,
                                   const v1::Architecture& arch);

// Sum of the slices' bytes.
int64_t ShardBytes(const v1::RankShard& shard, const v1::ModelDescription& model);

// For each local query head, which of the rank's KV heads it reads. (q_heads.size())
std::vector<int32_t> KvHeadOf(const v1::KindShard& ranges, const v1::AttentionConfig& attention);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_SHARD_SLICES_H_
