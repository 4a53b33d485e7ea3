#include "worker/model/shard_slices.h"

#include "proto/model/layers.h"
#include "proto/model/slices.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
std::optional<TensorSlice> SliceOf(const v1::RankShard& shard, const v1::TensorDescription& tensor,
                                   const v1::Architecture& arch) {
  if (!model::StageHolds(tensor, arch, shard)) return std::nullopt;
  const bool is_vector = tensor.shape_size() == 1;
  TensorSlice slice;
  slice.row_end = is_vector ? 1 : tensor.shape(0);
  slice.col_end = tensor.shape(tensor.shape_size() - 1);
  if (auto cut = model::CutOf(tensor, arch, shard)) {
    // A vector's only dimension counts as its columns, also where a matrix's rows are cut.
    const bool columns = cut->columns || is_vector;
    (columns ? slice.col_begin : slice.row_begin) = cut->begin;
    (columns ? slice.col_end : slice.row_end) = cut->end;
  }
  slice.dtype = ResidentType(tensor, arch);
  slice.bytes = kernels::RowBytes(slice.dtype, slice.cols()) * slice.rows();
  return slice;
}

int64_t ShardBytes(const v1::RankShard& shard, const v1::ModelDescription& model) {
  int64_t total = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (auto slice = SliceOf(shard, tensor, model.architecture())) total += slice->bytes;
  }
  return total;
}

std::vector<int32_t> KvHeadOf(const v1::KindShard& ranges, const v1::AttentionConfig& attention) {
  const int32_t queries_per_kv_head = model::QueryGroup(attention);
  std::vector<int32_t> kv_head_of;
  for (int32_t head = ranges.q_heads().begin(); head < ranges.q_heads().end(); ++head) {
    kv_head_of.push_back(head / queries_per_kv_head - ranges.kv_heads().begin());
  }
  return kv_head_of;
}

}  // namespace tessera::worker
