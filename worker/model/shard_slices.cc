#include "worker/model/shard_slices.h"

#include "proto/model/layers.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

// Whether this rank's stage holds the tensor at all, whatever the axis.
bool OnThisStage(const v1::RankShard& shard, const v1::TensorDescription& tensor,
                 const v1::Architecture& arch) {
  if (tensor.layer() >= 0) {
    return shard.layers().begin() <= tensor.layer() && tensor.layer() < shard.layers().end();
  }
  if (tensor.name() == "token_embedding") {
    return shard.has_embedding() || (shard.has_output_head() && arch.tied_embeddings());
  }
  return shard.has_output_head();  // output_norm and output
}

struct Cut {
  bool columns = false;
  int64_t begin = 0;
  int64_t end = 0;
};

// The half-open range along the tensor's cut dimension; nullopt for replicated tensors.
std::optional<Cut> CutOf(const v1::RankShard& shard, const v1::TensorDescription& tensor,
                         const v1::Architecture& arch) {
  if (tensor.axis() == v1::SHARD_AXIS_VOCAB_ROWS) {
    return Cut{false, shard.vocab().begin(), shard.vocab().end()};
  }
  if (tensor.layer() < 0) return std::nullopt;
  const v1::KindShard& ranges = model::RangesAt(arch, shard, tensor.layer());
  const int64_t head_dim = model::LayerAt(arch, tensor.layer()).attention().head_dim();
  switch (tensor.axis()) {
    case v1::SHARD_AXIS_Q_HEAD_ROWS:
      return Cut{false, ranges.q_heads().begin() * head_dim, ranges.q_heads().end() * head_dim};
    case v1::SHARD_AXIS_KV_HEAD_ROWS:
      return Cut{false, ranges.kv_heads().begin() * head_dim, ranges.kv_heads().end() * head_dim};
    case v1::SHARD_AXIS_Q_HEAD_COLS:
      return Cut{true, ranges.q_heads().begin() * head_dim, ranges.q_heads().end() * head_dim};
    case v1::SHARD_AXIS_FFN_ROWS:
      return Cut{false, ranges.ffn().begin(), ranges.ffn().end()};
    case v1::SHARD_AXIS_FFN_COLS:
      return Cut{true, ranges.ffn().begin(), ranges.ffn().end()};
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<TensorSlice> SliceOf(const v1::RankShard& shard, const v1::TensorDescription& tensor,
                                   const v1::Architecture& arch) {
  if (!OnThisStage(shard, tensor, arch)) return std::nullopt;
  const bool is_vector = tensor.shape_size() == 1;
  TensorSlice slice;
  slice.row_end = is_vector ? 1 : tensor.shape(0);
  slice.col_end = tensor.shape(tensor.shape_size() - 1);
  if (auto cut = CutOf(shard, tensor, arch)) {
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
