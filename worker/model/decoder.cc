#include "worker/model/decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/layers.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

using model::Size;

// The longest segment of sums that cuts at multiples of `unit` columns leave whole.
int SegmentOf(int unit) { return unit % 64 == 0 ? 64 : unit % 32 == 0 ? 32 : 1; }

// The most query heads that read one KV head.
int LargestGroup(const std::vector<int32_t>& kv_head_of) {
  int largest = 0, group = 0;
  for (size_t h = 0; h < kv_head_of.size(); ++h) {
    group = h > 0 && kv_head_of[h] == kv_head_of[h - 1] ? group + 1 : 1;
    largest = std::max(largest, group);
  }
  return largest;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const Setup& setup) {
  const v1::Architecture& arch = setup.file->description().architecture();
  const v1::RankShard& shard = setup.plan->ranks(setup.world_rank);
  if (arch.layer_kinds_size() != 1) {
    return absl::UnimplementedError(
        absl::StrCat("a model with ", arch.layer_kinds_size(), " kinds of layer; supported: 1"));
  }
  std::unique_ptr<Decoder> decoder(new Decoder(arch, shard, setup.device, setup.tp));

  // First, for the ranks wait for each other in it, and loading takes as long as it takes.
  TESSERA_RETURN_IF_ERROR(decoder->AllocateBuffers(setup.plan->max_tokens_per_step()));
  TESSERA_ASSIGN_OR_RETURN(decoder->weights_,
                           LoadShard(*setup.file, shard, *setup.device, setup.progress));
  const v1::AttentionConfig& attention = decoder->attention_config();
  const KvCacheShape kv_shape{.num_layers = Size(shard.layers()),
                              .num_blocks = setup.plan->num_kv_blocks(),
                              .num_kv_heads = Size(decoder->ranges().kv_heads()),
                              .block_tokens = setup.plan->kv_block_tokens(),
                              .head_dim = attention.head_dim()};
  TESSERA_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(*setup.device, kv_shape));
  decoder->kv_cache_ = std::make_unique<KvCache>(std::move(cache));
  TESSERA_ASSIGN_OR_RETURN(decoder->angles_, ComputeRopeAngles(attention.rope(), model::RotaryDim(attention),
                                             arch.max_positions()));
  decoder->kv_head_of_ = KvHeadOf(decoder->ranges(), attention);
  decoder->largest_group_ = LargestGroup(decoder->kv_head_of_);
  for (const LayerWeights& layer : decoder->weights_.layers) {
    decoder->attention_.push_back({
        .num_q_heads = Size(decoder->ranges().q_heads()),
        .num_kv_heads = Size(decoder->ranges().kv_heads()),
        .head_dim = attention.head_dim(),
        .kv_head_of = decoder->kv_head_of_.data(),
        .scale = model::AttentionScale(attention),
        .sliding_window = attention.sliding_window(),
        .q_norm = layer.q_norm,
        .k_norm = layer.k_norm,
        .norm_eps = arch.rms_norm_eps(),
    });
  }
  return decoder;
}

absl::StatusOr<kernels::Activation*> Decoder::AllocateActivations(int64_t count) {
  TESSERA_ASSIGN_OR_RETURN(kernels::Device::Buffer buffer,
                           device_->Allocate(kernels::RowBytes(device_->ActivationType(), count)));
  buffers_.push_back(std::move(buffer));
  return reinterpret_cast<Activation*>(buffers_.back().get());
}

absl::StatusOr<kernels::Activation*> Decoder::AllocateSummands(int64_t count) {
  TESSERA_ASSIGN_OR_RETURN(std::byte* const memory,
                           tp_->Allocate(kernels::RowBytes(device_->ActivationType(), count)));
  return reinterpret_cast<Activation*>(memory);
}

absl::Status Decoder::AllocateBuffers(int64_t max_tokens) {
  const int64_t rows = device_->MaxRows(max_tokens);
  const int64_t head_rows = std::max(rows, kMaxLogitRows);
  const int64_t hidden_size = arch_.hidden_size();
  const int64_t q_cols = int64_t{Size(ranges().q_heads())} * attention_config().head_dim();
  const int64_t kv_cols = int64_t{Size(ranges().kv_heads())} * attention_config().head_dim();
  TESSERA_ASSIGN_OR_RETURN(hidden_, AllocateSummands(rows * hidden_size));
  TESSERA_ASSIGN_OR_RETURN(own_normed_, AllocateSummands(head_rows * hidden_size));
  TESSERA_ASSIGN_OR_RETURN(std::byte* const partial,
                           tp_->Allocate(device_->PartialBytes(rows * hidden_size)));
  partial_ = reinterpret_cast<kernels::Partial*>(partial);
  TESSERA_ASSIGN_OR_RETURN(q_, AllocateActivations(rows * q_cols));
  TESSERA_ASSIGN_OR_RETURN(k_, AllocateActivations(rows * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(v_, AllocateActivations(rows * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(attended_, AllocateActivations(rows * q_cols));
  TESSERA_ASSIGN_OR_RETURN(gate_, AllocateActivations(rows * Size(ranges().ffn())));
  TESSERA_ASSIGN_OR_RETURN(up_, AllocateActivations(rows * Size(ranges().ffn())));
  if (shard_.has_output_head()) {
    TESSERA_ASSIGN_OR_RETURN(gathered_, AllocateActivations(kMaxLogitRows * hidden_size));
    TESSERA_ASSIGN_OR_RETURN(kernels::Device::Buffer buffer,
                             device_->Allocate(kMaxLogitRows * local_vocab_size() * sizeof(float)));
    logits_ = reinterpret_cast<float*>(buffer.get());
    buffers_.push_back(std::move(buffer));
  }
  return absl::OkStatus();
}

absl::Status Decoder::Begin(const TokenBatch& batch) {
  const auto pairs = static_cast<int64_t>(angles_.per_position.size());
  tokens_ = batch.size();
  cos_.resize(tokens_ * pairs);
  sin_.resize(tokens_ * pairs);
  FillRopeTable(angles_, batch.positions, cos_.data(), sin_.data());
  TESSERA_ASSIGN_OR_RETURN(rows_, device_->BeginStep(ViewOf(batch)));
  splits_rows_ = tp_->SplitsRows(rows_, arch_.hidden_size());
  return absl::OkStatus();
}

bool Decoder::TakesBehind(const TokenBatch& batch) { return device_->TakesBehind(ViewOf(batch)); }

kernels::StepView Decoder::ViewOf(const TokenBatch& batch) const {
  return {
      .n = batch.size(),
      .ids = batch.token_ids.data(),
      .sequences = batch.sequences.data(),
      .num_sequences = static_cast<int64_t>(batch.sequences.size()),
      .rope = {.cos = cos_.data(),
               .sin = sin_.data(),
               .rope_dim = model::RotaryDim(attention_config()),
               .interleaved = attention_config().rope().pairing() == v1::ROPE_PAIRING_INTERLEAVED},
      .largest_group = largest_group_,
      .sliding_window = attention_config().sliding_window(),
  };
}

absl::Status Decoder::Embed() {
  // Every row but one rank's is zeros, so the sum is exact.
  device_->Embed(weights_.token_embedding, shard_.vocab().begin(), 1.0f, rows_, hidden_);
  return tp_->AllReduceSum(hidden_, rows_ * arch_.hidden_size());
}

absl::Status Decoder::WriteHidden(absl::Span<const std::byte> hidden) {
  if (float* floats = device_->HostFloats(hidden_)) {
    std::memcpy(floats, hidden.data(), hidden.size());
    return absl::OkStatus();
  }
  host_hidden_.resize(hidden.size() / sizeof(float));
  std::memcpy(host_hidden_.data(), hidden.data(), hidden.size());
  return device_->WriteActivations(host_hidden_.data(), static_cast<int64_t>(host_hidden_.size()),
                                   hidden_);
}

absl::StatusOr<absl::Span<const float>> Decoder::ReadHidden() {
  const int64_t count = tokens_ * arch_.hidden_size();
  if (const float* floats = device_->HostFloats(hidden_)) {
    TESSERA_RETURN_IF_ERROR(device_->Sync());
    return absl::MakeConstSpan(floats, count);
  }
  host_hidden_.resize(count);
  TESSERA_RETURN_IF_ERROR(device_->ReadActivations(hidden_, count, host_hidden_.data()));
  return absl::MakeConstSpan(host_hidden_);
}

absl::Status Decoder::RunLayers(absl::FunctionRef<absl::Status()> between) {
  TESSERA_RETURN_IF_ERROR(StartLayers(between));
  return tp_->Wait(between);
}

absl::Status Decoder::StartLayers(absl::FunctionRef<absl::Status()> between) {
  constexpr int kLayers = 0;  // key of the recording
  if (!tp_->on_device()) return RunAllLayers(between);
  return device_->Replayable(kLayers, rows_, [&] { return RunAllLayers(between); });
}

absl::Status Decoder::RunAllLayers(absl::FunctionRef<absl::Status()> between) {
  const float eps = arch_.rms_norm_eps();
  const int64_t hidden_size = arch_.hidden_size();
  if (weights_.layers.empty()) return absl::OkStatus();
  device_->RmsNorm(hidden_, weights_.layers[0].attn_norm, eps, rows_, hidden_size, own_normed_);
  normed_ = own_normed_;
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const LayerWeights& layer = weights_.layers[i];
    Attend(static_cast<int>(i));
    TESSERA_RETURN_IF_ERROR(AddAndNorm(layer.ffn_norm));
    TESSERA_RETURN_IF_ERROR(between());
    FeedForward(layer);
    if (i + 1 < weights_.layers.size()) {
      TESSERA_RETURN_IF_ERROR(AddAndNorm(weights_.layers[i + 1].attn_norm));
    } else {
      TESSERA_RETURN_IF_ERROR(
          tp_->AddRows(partial_, rows_, hidden_size, [&](int64_t begin, int64_t count) {
            device_->Add(Row(partial_, begin), 1.0f, count * hidden_size, Row(hidden_, begin));
          }));
      if (splits_rows_) {
        TESSERA_RETURN_IF_ERROR(tp_->GatherRows(hidden_, rows_, hidden_size));
      }
    }
    TESSERA_RETURN_IF_ERROR(between());
  }
  return absl::OkStatus();
}

kernels::Activation* Decoder::Row(Activation* x, int64_t row) const {
  const size_t bytes = kernels::RowBytes(device_->ActivationType(), row * arch_.hidden_size());
  return reinterpret_cast<Activation*>(reinterpret_cast<std::byte*>(x) + bytes);
}

kernels::Partial* Decoder::Row(kernels::Partial* x, int64_t row) const {
  const size_t bytes = device_->PartialBytes(row * arch_.hidden_size());
  return reinterpret_cast<kernels::Partial*>(reinterpret_cast<std::byte*>(x) + bytes);
}

// Sums what the ranks' products gave, adds it to the hidden state and normalizes that.
absl::Status Decoder::AddAndNorm(const float* weight) {
  Activation* const normed = splits_rows_ ? tp_->Common(own_normed_) : own_normed_;
  TESSERA_RETURN_IF_ERROR(
      tp_->AddRows(partial_, rows_, arch_.hidden_size(), [&](int64_t begin, int64_t count) {
        device_->AddRmsNorm(Row(partial_, begin), 1.0f, weight, arch_.rms_norm_eps(), count,
                            arch_.hidden_size(), Row(hidden_, begin), Row(normed, begin));
      }));
  normed_ = normed;
  return splits_rows_ ? tp_->Meet() : absl::OkStatus();
}

void Decoder::Attend(int local_layer) {
  const LayerWeights& layer = weights_.layers[local_layer];
  const kernels::AttentionShape& shape = attention_[local_layer];
  const kernels::KvCacheView cache = kv_cache_->layer(local_layer);
  device_->MatMul({{layer.wq, layer.bq, q_}, {layer.wk, layer.bk, k_}, {layer.wv, layer.bv, v_}},
                  normed_, rows_);
  device_->RotateAndStore(shape, cache, rows_, q_, k_, v_);
  device_->Attention(q_, shape, cache, rows_, attended_);
  device_->MatMulPartial(layer.wo, attended_, rows_, SegmentOf(attention_config().head_dim()), partial_);
}

void Decoder::FeedForward(const LayerWeights& layer) {
  device_->MatMul({{layer.w_gate, nullptr, gate_}, {layer.w_up, nullptr, up_}}, normed_, rows_);
  device_->SiluMul(gate_, up_, rows_ * layer.w_gate.rows, gate_);
  device_->MatMulPartial(layer.w_down, gate_, rows_, SegmentOf(arch_.layer_kinds(0).feed_forward().granularity()), partial_);
}

void Decoder::ComputeLogits(absl::Span<const int64_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  device_->RmsNorm(SideBySide(rows), weights_.output_norm, arch_.rms_norm_eps(), count,
                   arch_.hidden_size(), own_normed_);
  device_->Logits(weights_.output, own_normed_, count, logits_);
}

// Only the rows asked for go through the head; those of a step of single tokens are neighbours,
// others are gathered.
const kernels::Activation* Decoder::SideBySide(absl::Span<const int64_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  if (count > 0 && rows.back() - rows.front() == count - 1) {
    return Row(hidden_, rows.front());
  }
  device_->GatherRows(hidden_, rows, arch_.hidden_size(), gathered_);
  return gathered_;
}

absl::StatusOr<absl::Span<const float>> Decoder::Logits(absl::Span<const int64_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  ComputeLogits(rows);
  TESSERA_ASSIGN_OR_RETURN(const float* logits,
                           device_->ReadFloats(logits_, count * local_vocab_size()));
  return absl::MakeConstSpan(logits, count * local_vocab_size());
}

}  // namespace tessera::worker
