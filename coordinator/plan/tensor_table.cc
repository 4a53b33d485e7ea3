#include "coordinator/plan/tensor_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/model/layers.h"

namespace tessera::coordinator {
namespace {

// part of whole of the bytes, without the product that could overflow.
int64_t Fraction(int64_t bytes, int64_t part, int64_t whole) {
  return bytes / whole * part + bytes % whole * part / whole;
}

int64_t Fraction(int64_t bytes, const v1::Range& range, int64_t whole) {
  return Fraction(bytes, range.end() - range.begin(), whole);
}

// Of columns: what stands once for every row, F8_E4M3's scale, is on every rank.
int64_t ColumnsBytes(const v1::TensorDescription& tensor, const v1::Range& range, int64_t whole) {
  constexpr int64_t kScaleBytes = 4;
  const int64_t bytes = tensor.resident_bytes();
  const int64_t scales =
      tensor.type() == v1::DATA_TYPE_F8_E4M3 ? std::min(bytes, tensor.shape(0) * kScaleBytes) : 0;
  return scales + Fraction(bytes - scales, range, whole);
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch) {
  const int64_t hidden = arch.hidden_size();
  const int64_t vocab = arch.vocab_size();
  struct Row {
    const char* role;
    std::vector<int64_t> shape;
    v1::ShardAxis axis;
    bool present;
  };
  const Row outside[] = {
      {"token_embedding", {vocab, hidden}, v1::SHARD_AXIS_VOCAB_ROWS, true},
      {"output_norm", {hidden}, v1::SHARD_AXIS_REPLICATED, true},
      {"output", {vocab, hidden}, v1::SHARD_AXIS_VOCAB_ROWS, !arch.tied_embeddings()},
  };
  const auto per_layer = [hidden](const v1::LayerConfig& kind) {
    const v1::AttentionConfig& attention = kind.attention();
    const int64_t head = attention.head_dim();
    const int64_t q_rows = attention.num_heads() * head;
    const int64_t kv_rows = attention.num_kv_heads() * head;
    const int64_t ffn = kind.feed_forward().width();
    const bool bias = attention.qkv_bias();
    const bool whole = attention.qk_norm() == v1::AttentionConfig::QK_NORM_WHOLE_WIDTH;
    const bool pre = kind.norms() != v1::LayerConfig::NORM_PLACEMENT_POST;
    const bool post = kind.norms() != v1::LayerConfig::NORM_PLACEMENT_PRE;
    const bool qk_norm = attention.qk_norm() != v1::AttentionConfig::QK_NORM_NONE;
    return std::vector<Row>{
        {"attn_norm", {hidden}, v1::SHARD_AXIS_REPLICATED, pre},
        {"wq", {q_rows, hidden}, v1::SHARD_AXIS_Q_HEAD_ROWS, true},
        {"wk", {kv_rows, hidden}, v1::SHARD_AXIS_KV_HEAD_ROWS, true},
        {"wv", {kv_rows, hidden}, v1::SHARD_AXIS_KV_HEAD_ROWS, true},
        {"bq", {q_rows}, v1::SHARD_AXIS_Q_HEAD_ROWS, bias},
        {"bk", {kv_rows}, v1::SHARD_AXIS_KV_HEAD_ROWS, bias},
        {"bv", {kv_rows}, v1::SHARD_AXIS_KV_HEAD_ROWS, bias},
        {"q_norm", {head}, v1::SHARD_AXIS_REPLICATED, qk_norm && !whole},
        {"k_norm", {head}, v1::SHARD_AXIS_REPLICATED, qk_norm && !whole},
        {"q_norm", {q_rows}, v1::SHARD_AXIS_Q_HEAD_ROWS, whole},
        {"k_norm", {kv_rows}, v1::SHARD_AXIS_KV_HEAD_ROWS, whole},
        {"wo", {hidden, q_rows}, v1::SHARD_AXIS_Q_HEAD_COLS, true},
        {"attn_post_norm", {hidden}, v1::SHARD_AXIS_REPLICATED, post},
        {"ffn_norm", {hidden}, v1::SHARD_AXIS_REPLICATED, pre},
        {"w_gate", {ffn, hidden}, v1::SHARD_AXIS_FFN_ROWS, true},
        {"w_up", {ffn, hidden}, v1::SHARD_AXIS_FFN_ROWS, true},
        {"w_down", {hidden, ffn}, v1::SHARD_AXIS_FFN_COLS, true},
        {"ffn_post_norm", {hidden}, v1::SHARD_AXIS_REPLICATED, post},
    };
  };
  std::vector<ExpectedTensor> tensors;
  for (const Row& row : outside) {
    if (row.present) tensors.push_back({row.role, row.shape, row.axis, -1});
  }
  for (int layer = 0; layer < arch.num_layers(); ++layer) {
    for (const Row& row : per_layer(model::LayerAt(arch, layer))) {
      if (!row.present) continue;
      tensors.push_back(
          {absl::StrCat("layers.", layer, ".", row.role), row.shape, row.axis, layer});
    }
  }
  return tensors;
}

int64_t SliceBytes(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                   const v1::RankShard& shard) {
  const int64_t bytes = tensor.resident_bytes();
  if (tensor.axis() == v1::SHARD_AXIS_VOCAB_ROWS) {
    return Fraction(bytes, shard.vocab(), arch.vocab_size());
  }
  if (tensor.layer() < 0) return bytes;
  const v1::KindShard& ranges = model::RangesAt(arch, shard, tensor.layer());
  const v1::LayerConfig& kind = model::LayerAt(arch, tensor.layer());
  switch (tensor.axis()) {
    case v1::SHARD_AXIS_Q_HEAD_ROWS:
      return Fraction(bytes, ranges.q_heads(), kind.attention().num_heads());
    case v1::SHARD_AXIS_Q_HEAD_COLS:
      return ColumnsBytes(tensor, ranges.q_heads(), kind.attention().num_heads());
    case v1::SHARD_AXIS_KV_HEAD_ROWS:
      return Fraction(bytes, ranges.kv_heads(), kind.attention().num_kv_heads());
    case v1::SHARD_AXIS_FFN_ROWS:
      return Fraction(bytes, ranges.ffn(), kind.feed_forward().width());
    case v1::SHARD_AXIS_FFN_COLS:
      return ColumnsBytes(tensor, ranges.ffn(), kind.feed_forward().width());
    default:
      return bytes;
  }
}

bool StageHolds(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                const v1::RankShard& shard) {
  if (tensor.layer() >= 0) {
    return tensor.layer() >= shard.layers().begin() && tensor.layer() < shard.layers().end();
  }
  if (tensor.name() == "token_embedding") {
    // Tied: the last stage reads the same rows as its output head; one stage that is both holds
    // them once.
    return shard.has_embedding() || (arch.tied_embeddings() && shard.has_output_head());
  }
  return shard.has_output_head();  // output_norm, output
}

}  // namespace tessera::coordinator
