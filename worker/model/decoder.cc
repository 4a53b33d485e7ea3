#include "worker/model/decoder.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include "proto/wire/status_macros.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

int64_t Size(const v1::Range& range) { return range.end() - range.begin(); }

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const Setup& setup) {
  const v1::Architecture& arch = setup.file->description().architecture();
  const v1::RankShard& shard = setup.plan->ranks(setup.world_rank);
  std::unique_ptr<Decoder> decoder(new Decoder(arch, shard, setup.device, setup.tp));

  TESSERA_ASSIGN_OR_RETURN(decoder->weights_,
                           LoadShard(*setup.file, shard, *setup.device, setup.progress));
  const KvCacheShape kv_shape{.num_layers = static_cast<int>(Size(shard.layers())),
                              .num_blocks = setup.plan->num_kv_blocks(),
                              .num_kv_heads = static_cast<int>(Size(shard.kv_heads())),
                              .block_tokens = setup.plan->kv_block_tokens(),
                              .head_dim = arch.head_dim()};
  TESSERA_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(*setup.device, kv_shape));
  decoder->kv_cache_ = std::make_unique<KvCache>(std::move(cache));
  TESSERA_RETURN_IF_ERROR(decoder->AllocateBuffers(setup.plan->max_tokens_per_step()));
  TESSERA_ASSIGN_OR_RETURN(decoder->angles_, ComputeRopeAngles(arch));
  decoder->rope_ = {.cos = decoder->cos_,
                    .sin = decoder->sin_,
                    .rope_dim = arch.head_dim(),
                    .interleaved = arch.rope_pairing() == v1::INTERLEAVED};

  decoder->kv_head_of_ = KvHeadOf(shard, arch);
  decoder->attention_ = {.num_q_heads = static_cast<int>(Size(shard.q_heads())),
                         .num_kv_heads = static_cast<int>(Size(shard.kv_heads())),
                         .head_dim = arch.head_dim(),
                         .kv_head_of = decoder->kv_head_of_.data(),
                         .scale = 1.0f / std::sqrt(static_cast<float>(arch.head_dim())),
                         .sliding_window = arch.sliding_window()};
  return decoder;
}

absl::StatusOr<float*> Decoder::AllocateFloats(int64_t count) {
  TESSERA_ASSIGN_OR_RETURN(kernels::Device::Buffer buffer,
                           device_->Allocate(count * sizeof(float)));
  buffers_.push_back(std::move(buffer));
  return reinterpret_cast<float*>(buffers_.back().get());
}

absl::Status Decoder::AllocateBuffers(int64_t max_tokens) {
  const int64_t q_cols = Size(shard_.q_heads()) * arch_.head_dim();
  const int64_t kv_cols = Size(shard_.kv_heads()) * arch_.head_dim();
  TESSERA_ASSIGN_OR_RETURN(hidden_, AllocateFloats(max_tokens * arch_.hidden_size()));
  TESSERA_ASSIGN_OR_RETURN(normed_, AllocateFloats(max_tokens * arch_.hidden_size()));
  TESSERA_ASSIGN_OR_RETURN(partial_, AllocateFloats(max_tokens * arch_.hidden_size()));
  TESSERA_ASSIGN_OR_RETURN(q_, AllocateFloats(max_tokens * q_cols));
  TESSERA_ASSIGN_OR_RETURN(k_, AllocateFloats(max_tokens * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(v_, AllocateFloats(max_tokens * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(attended_, AllocateFloats(max_tokens * q_cols));
  TESSERA_ASSIGN_OR_RETURN(cos_, AllocateFloats(max_tokens * (arch_.head_dim() / 2)));
  TESSERA_ASSIGN_OR_RETURN(sin_, AllocateFloats(max_tokens * (arch_.head_dim() / 2)));
  TESSERA_ASSIGN_OR_RETURN(gate_, AllocateFloats(max_tokens * Size(shard_.ffn())));
  TESSERA_ASSIGN_OR_RETURN(up_, AllocateFloats(max_tokens * Size(shard_.ffn())));
  if (shard_.has_output_head()) {
    TESSERA_ASSIGN_OR_RETURN(logits_, AllocateFloats(kMaxLogitRows * local_vocab_size()));
  }
  return absl::OkStatus();
}

absl::Status Decoder::AllReduce(float* data, int64_t count) {
  if (tp_->size() == 1) return absl::OkStatus();
  TESSERA_RETURN_IF_ERROR(device_->Sync());
  return tp_->AllReduceSum(absl::MakeSpan(data, count));
}

absl::Status Decoder::Embed(const TokenBatch& batch) {
  // Every row but one rank's is zeros, so the sum is exact.
  device_->Embed(weights_.token_embedding, batch.token_ids.data(), shard_.vocab().begin(),
                 batch.size(), hidden_);
  return AllReduce(hidden_, batch.size() * arch_.hidden_size());
}

void Decoder::TurnTo(const TokenBatch& batch) {
  FillRopeTable(angles_, batch.positions, cos_, sin_);
  if (rope_rows_.size() >= batch.positions.size()) return;
  rope_rows_.resize(batch.positions.size());
  std::iota(rope_rows_.begin(), rope_rows_.end(), 0);
}

absl::Status Decoder::RunLayers(const TokenBatch& batch,
                                absl::FunctionRef<absl::Status()> between) {
  TurnTo(batch);
  const int64_t n = batch.size();
  const int64_t hidden_size = arch_.hidden_size();
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const LayerWeights& layer = weights_.layers[i];
    device_->RmsNorm(hidden_, layer.attn_norm, arch_.rms_norm_eps(), n, hidden_size, normed_);
    TESSERA_RETURN_IF_ERROR(Attend(batch, static_cast<int>(i)));
    device_->Add(partial_, n * hidden_size, hidden_);
    TESSERA_RETURN_IF_ERROR(between());
    device_->RmsNorm(hidden_, layer.ffn_norm, arch_.rms_norm_eps(), n, hidden_size, normed_);
    TESSERA_RETURN_IF_ERROR(FeedForward(batch, layer));
    device_->Add(partial_, n * hidden_size, hidden_);
    TESSERA_RETURN_IF_ERROR(between());
  }
  return device_->Sync();
}

absl::Status Decoder::Attend(const TokenBatch& batch, int local_layer) {
  const LayerWeights& layer = weights_.layers[local_layer];
  const int64_t n = batch.size();
  const int head_dim = arch_.head_dim();
  const int q_heads = attention_.num_q_heads, kv_heads = attention_.num_kv_heads;
  const kernels::KvCacheView cache = kv_cache_->layer(local_layer);
  const kernels::TokenPlacement where{batch.positions.data(), batch.block_tables.data()};

  device_->MatMul(layer.wq, normed_, layer.bq, n, q_);
  device_->MatMul(layer.wk, normed_, layer.bk, n, k_);
  device_->MatMul(layer.wv, normed_, layer.bv, n, v_);
  if (arch_.qk_norm()) {
    device_->RmsNorm(q_, layer.q_norm, arch_.rms_norm_eps(), n * q_heads, head_dim, q_);
    device_->RmsNorm(k_, layer.k_norm, arch_.rms_norm_eps(), n * kv_heads, head_dim, k_);
  }
  device_->Rope(rope_, rope_rows_.data(), n, q_heads, head_dim, q_);
  device_->Rope(rope_, rope_rows_.data(), n, kv_heads, head_dim, k_);
  device_->StoreKv(k_, v_, where, n, cache);
  device_->Attention(q_, where, attention_, cache, n, attended_);
  device_->MatMul(layer.wo, attended_, nullptr, n, partial_);
  return AllReduce(partial_, n * arch_.hidden_size());
}

absl::Status Decoder::FeedForward(const TokenBatch& batch, const LayerWeights& layer) {
  const int64_t n = batch.size();
  device_->MatMul(layer.w_gate, normed_, nullptr, n, gate_);
  device_->MatMul(layer.w_up, normed_, nullptr, n, up_);
  device_->SiluMul(gate_, up_, n * layer.w_gate.rows, gate_);
  device_->MatMul(layer.w_down, gate_, nullptr, n, partial_);
  return AllReduce(partial_, n * arch_.hidden_size());
}

absl::StatusOr<absl::Span<const float>> Decoder::Logits(absl::Span<const int64_t> rows) {
  const int64_t hidden_size = arch_.hidden_size();
  const int64_t count = static_cast<int64_t>(rows.size());
  // Only the rows asked for go through the head; they are gathered to lie side by side.
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(partial_ + i * hidden_size, hidden_ + rows[i] * hidden_size,
                hidden_size * sizeof(float));
  }
  device_->RmsNorm(partial_, weights_.output_norm, arch_.rms_norm_eps(), count, hidden_size,
                   normed_);
  device_->MatMul(weights_.output, normed_, nullptr, count, logits_);
  TESSERA_RETURN_IF_ERROR(device_->Sync());
  return absl::MakeConstSpan(logits_, count * local_vocab_size());
}

}  // namespace tessera::worker
