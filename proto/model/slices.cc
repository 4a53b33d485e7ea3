#include "proto/model/slices.h"

#include <algorithm>

#include "proto/model/layers.h"

namespace tessera::model {
namespace {

// part of whole of the bytes, without the product that could overflow.
int64_t Fraction(int64_t bytes, int64_t part, int64_t whole) {
  return bytes / whole * part + bytes % whole * part / whole;
}

Cut Units(bool columns, const v1::Range& range, int64_t unit, int64_t count) {
  return {columns, range.begin() * unit, range.end() * unit, count * unit};
}

// What stands once for every row and is on every rank that holds columns: F8_E4M3's scale.
int64_t RowScaleBytes(const v1::TensorDescription& tensor) {
  constexpr int64_t kScaleBytes = 4;
  if (tensor.type() != v1::DATA_TYPE_F8_E4M3) return 0;
  return std::min(tensor.resident_bytes(), tensor.shape(0) * kScaleBytes);
}

}  // namespace

bool StageHolds(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                const v1::RankShard& shard) {
  if (tensor.layer() >= 0) {
    return shard.layers().begin() <= tensor.layer() && tensor.layer() < shard.layers().end();
  }
  if (tensor.name() == "token_embedding") {
    return shard.has_embedding() || (arch.tied_embeddings() && shard.has_output_head());
  }
  return shard.has_output_head();  // output_norm, output
}

std::optional<Cut> CutOf(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                         const v1::RankShard& shard) {
  if (tensor.axis() == v1::SHARD_AXIS_VOCAB_ROWS) {
    return Units(false, shard.vocab(), 1, arch.vocab_size());
  }
  if (tensor.layer() < 0) return std::nullopt;
  const v1::KindShard& ranges = RangesAt(arch, shard, tensor.layer());
  const v1::LayerConfig& layer = LayerAt(arch, tensor.layer());
  const int64_t head_dim = layer.attention().head_dim();
  switch (tensor.axis()) {
    case v1::SHARD_AXIS_Q_HEAD_ROWS:
      return Units(false, ranges.q_heads(), head_dim, layer.attention().num_heads());
    case v1::SHARD_AXIS_Q_HEAD_COLS:
      return Units(true, ranges.q_heads(), head_dim, layer.attention().num_heads());
    case v1::SHARD_AXIS_KV_HEAD_ROWS:
      return Units(false, ranges.kv_heads(), head_dim, layer.attention().num_kv_heads());
    case v1::SHARD_AXIS_FFN_ROWS:
      return Units(false, ranges.ffn(), 1, layer.feed_forward().width());
    case v1::SHARD_AXIS_FFN_COLS:
      return Units(true, ranges.ffn(), 1, layer.feed_forward().width());
    default:
      return std::nullopt;
  }
}

int64_t SliceBytes(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                   const v1::RankShard& shard) {
  const auto cut = CutOf(tensor, arch, shard);
  if (!cut) return tensor.resident_bytes();
  const int64_t whole_rows = cut->columns ? RowScaleBytes(tensor) : 0;
  return whole_rows +
         Fraction(tensor.resident_bytes() - whole_rows, cut->end - cut->begin, cut->whole);
}

v1::Range KvHeadsOf(const v1::Range& q_heads, const v1::AttentionConfig& attention) {
  const int group = QueryGroup(attention);
  v1::Range kv_heads;
  kv_heads.set_begin(q_heads.begin() / group);
  kv_heads.set_end((q_heads.end() - 1) / group + 1);
  return kv_heads;
}

}  // namespace tessera::model
