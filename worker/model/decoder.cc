#include "worker/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "proto/base/status_macros.h"
#include "proto/model/layers.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

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

// The rotary embedding of the layers that have one; null: none has. One table serves a step.
absl::StatusOr<const v1::AttentionConfig*> RotaryOf(const v1::Architecture& arch) {
  const v1::AttentionConfig* found = nullptr;
  for (const v1::LayerConfig& kind : arch.layer_kinds()) {
    const v1::AttentionConfig& attention = kind.attention();
    if (!attention.has_rope()) continue;
    const bool same =
        found == nullptr ||
        (model::RotaryDim(*found) == model::RotaryDim(attention) &&
         found->rope().SerializeAsString() == attention.rope().SerializeAsString());
    if (!same) {
      return absl::UnimplementedError(
          "layers with different rotary embeddings; supported: the same in all that have one");
    }
    found = &attention;
  }
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const Setup& setup) {
  const v1::Architecture& arch = setup.file->description().architecture();
  const v1::RankShard& shard = setup.plan->ranks(setup.world_rank);
  std::unique_ptr<Decoder> decoder(new Decoder(arch, shard, setup.device, setup.tp));
  TESSERA_RETURN_IF_ERROR(decoder->DescribeKinds());

  // First, for the ranks wait for each other in it, and loading takes as long as it takes.
  TESSERA_RETURN_IF_ERROR(decoder->AllocateBuffers(setup.plan->max_tokens_per_step()));
  TESSERA_ASSIGN_OR_RETURN(decoder->weights_,
                           LoadShard(*setup.file, shard, *setup.device, setup.progress));
  TESSERA_RETURN_IF_ERROR(
      decoder->PlaceLayers(setup.plan->num_kv_blocks(), setup.plan->kv_block_tokens()));
  return decoder;
}

absl::Status Decoder::DescribeKinds() {
  bool windows = true;  // in all
  for (int i = 0; i < arch_.layer_kinds_size(); ++i) {
    const v1::LayerConfig& config = arch_.layer_kinds(i);
    const v1::AttentionConfig& attention = config.attention();
    const v1::KindShard& ranges = model::RangesOf(shard_, i);
    const int group = model::QueryGroup(attention);
    const int head_dim = attention.head_dim();
    Kind& kind = kinds_.emplace_back();
    kind.kv_head_of = KvHeadOf(ranges, attention);
    kind.q_cols = int64_t{model::Size(ranges.q_heads())} * head_dim;
    kind.kv_cols = int64_t{model::Size(ranges.kv_heads())} * head_dim;
    kind.ffn_cols = model::Size(ranges.ffn());
    // Of KV heads that several ranks hold the sums belong to the rank of their first query head.
    for (int32_t head = ranges.kv_heads().begin(); head < ranges.kv_heads().end(); ++head) {
      if (head * group < ranges.q_heads().begin()) kind.counted_begin += head_dim;
    }
    kind.whole_q_cols = int64_t{attention.num_heads()} * head_dim;
    kind.whole_kv_cols = int64_t{attention.num_kv_heads()} * head_dim;
    kind.whole_width_norm = attention.qk_norm() == v1::AttentionConfig::QK_NORM_WHOLE_WIDTH;
    kind.residual = model::Multiplier(config.residual_multiplier());
    kind.out_segment = SegmentOf(head_dim);
    kind.down_segment = SegmentOf(config.feed_forward().granularity());
    kind.largest_group = LargestGroup(kind.kv_head_of);
    kind.shape = {
        .num_q_heads = model::Size(ranges.q_heads()),
        .num_kv_heads = model::Size(ranges.kv_heads()),
        .head_dim = head_dim,
        .scale = model::AttentionScale(attention),
        .sliding_window = attention.sliding_window(),
        .rotary = attention.has_rope(),
        .norm_eps = arch_.rms_norm_eps(),
    };
    largest_group_ = std::max(largest_group_, kind.largest_group);
    windows = windows && attention.sliding_window() > 0;
    widest_window_ = std::max(widest_window_, attention.sliding_window());
  }
  if (!windows) widest_window_ = 0;
  TESSERA_ASSIGN_OR_RETURN(const v1::AttentionConfig* rotary, RotaryOf(arch_));
  if (rotary == nullptr) return absl::OkStatus();
  rotary_dim_ = model::RotaryDim(*rotary);
  interleaved_ = rotary->rope().pairing() == v1::ROPE_PAIRING_INTERLEAVED;
  TESSERA_ASSIGN_OR_RETURN(
      angles_, ComputeRopeAngles(rotary->rope(), rotary_dim_, arch_.max_positions()));
  return absl::OkStatus();
}

absl::Status Decoder::PlaceLayers(int num_blocks, int block_tokens) {
  KvCacheShape kv_shape{.num_blocks = num_blocks, .block_tokens = block_tokens, .layers = {}};
  for (int i = shard_.layers().begin(); i < shard_.layers().end(); ++i) {
    const kernels::AttentionShape& shape = kinds_[model::KindOf(arch_, i)].shape;
    kv_shape.layers.push_back({shape.num_kv_heads, shape.head_dim});
  }
  TESSERA_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(*device_, std::move(kv_shape)));
  kv_cache_ = std::make_unique<KvCache>(std::move(cache));
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const int local = static_cast<int>(i);
    const Kind& kind = kinds_[model::KindOf(arch_, shard_.layers().begin() + local)];
    Layer& layer = layers_.emplace_back(
        Layer{&kind, &weights_.layers[i], kind.shape, kv_cache_->layer(local)});
    layer.attention.kv_head_of = kind.kv_head_of.data();
    if (kind.whole_width_norm) continue;  // the norm is not of each head
    layer.attention.q_norm = layer.weights->q_norm;
    layer.attention.k_norm = layer.weights->k_norm;
  }
  return absl::OkStatus();
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
  int64_t q_cols = 0, kv_cols = 0, ffn_cols = 0;
  bool whole_width_norm = false;
  for (const Kind& kind : kinds_) {
    q_cols = std::max(q_cols, kind.q_cols);
    kv_cols = std::max(kv_cols, kind.kv_cols);
    ffn_cols = std::max(ffn_cols, kind.ffn_cols);
    whole_width_norm = whole_width_norm || kind.whole_width_norm;
  }
  TESSERA_ASSIGN_OR_RETURN(hidden_, AllocateSummands(rows * hidden_size));
  TESSERA_ASSIGN_OR_RETURN(own_normed_, AllocateSummands(head_rows * hidden_size));
  TESSERA_ASSIGN_OR_RETURN(std::byte* const partial,
                           tp_->Allocate(device_->PartialBytes(rows * hidden_size)));
  partial_ = reinterpret_cast<kernels::Partial*>(partial);
  if (whole_width_norm) {
    TESSERA_ASSIGN_OR_RETURN(std::byte* const sums,
                             tp_->Allocate(device_->SquareSumBytes(2 * rows)));
    square_sums_ = reinterpret_cast<kernels::SquareSum*>(sums);
  }
  TESSERA_ASSIGN_OR_RETURN(q_, AllocateActivations(rows * q_cols));
  TESSERA_ASSIGN_OR_RETURN(k_, AllocateActivations(rows * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(v_, AllocateActivations(rows * kv_cols));
  TESSERA_ASSIGN_OR_RETURN(attended_, AllocateActivations(rows * q_cols));
  TESSERA_ASSIGN_OR_RETURN(gate_, AllocateActivations(rows * ffn_cols));
  TESSERA_ASSIGN_OR_RETURN(up_, AllocateActivations(rows * ffn_cols));
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
  const int pairs = rotary_dim_ / 2;
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
               .rope_dim = rotary_dim_,
               .interleaved = interleaved_},
      .largest_group = largest_group_,
      .sliding_window = widest_window_,
  };
}

absl::Status Decoder::Embed() {
  // Every row but one rank's is zeros, so the sum is exact.
  device_->Embed(weights_.token_embedding, shard_.vocab().begin(),
                 model::Multiplier(arch_.embedding_multiplier()), rows_, hidden_);
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
  if (layers_.empty()) return absl::OkStatus();
  Norm(layers_.front().weights->attn_norm);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const bool last = i + 1 == layers_.size();
    TESSERA_RETURN_IF_ERROR(Attend(layer));
    TESSERA_RETURN_IF_ERROR(
        AddAndNorm(layer, layer.weights->attn_post_norm, layer.weights->ffn_norm));
    TESSERA_RETURN_IF_ERROR(between());
    FeedForward(layer);
    TESSERA_RETURN_IF_ERROR(AddAndNorm(layer, layer.weights->ffn_post_norm,
                                       last ? nullptr : layers_[i + 1].weights->attn_norm));
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

void Decoder::Norm(const float* weight) {
  normed_ = hidden_;
  if (weight == nullptr) return;
  device_->RmsNorm(hidden_, weight, arch_.rms_norm_eps(), rows_, arch_.hidden_size(), own_normed_);
  normed_ = own_normed_;
}

absl::Status Decoder::AddAndNorm(const Layer& layer, const float* post, const float* next) {
  const int64_t cols = arch_.hidden_size();
  const float eps = arch_.rms_norm_eps(), by = layer.kind->residual;
  Activation* const normed = splits_rows_ ? tp_->Common(own_normed_) : own_normed_;
  TESSERA_RETURN_IF_ERROR(
      tp_->AddRows(partial_, rows_, cols, [&](int64_t begin, int64_t count) {
        kernels::Partial* const sum = Row(partial_, begin);
        Activation* const hidden = Row(hidden_, begin);
        if (post == nullptr && next != nullptr) {
          return device_->AddRmsNorm(sum, by, next, eps, count, cols, hidden, Row(normed, begin));
        }
        if (post == nullptr) return device_->Add(sum, by, count * cols, hidden);
        device_->AddNormed(sum, by, post, eps, count, cols, hidden);
        if (next != nullptr) {
          device_->RmsNorm(hidden, next, eps, count, cols, Row(normed, begin));
        }
      }));
  normed_ = next != nullptr ? normed : hidden_;
  if (!splits_rows_) return absl::OkStatus();
  return next != nullptr ? tp_->Meet() : tp_->GatherRows(hidden_, rows_, cols);
}

absl::Status Decoder::Attend(const Layer& layer) {
  const LayerWeights& weights = *layer.weights;
  device_->MatMul(
      {{weights.wq, weights.bq, q_}, {weights.wk, weights.bk, k_}, {weights.wv, weights.bv, v_}},
      normed_, rows_);
  if (layer.kind->whole_width_norm) TESSERA_RETURN_IF_ERROR(NormWholeWidth(layer));
  device_->RotateAndStore(layer.attention, layer.cache, rows_, q_, k_, v_);
  device_->Attention(q_, layer.attention, layer.cache, rows_, attended_);
  device_->MatMulPartial(weights.wo, attended_, rows_, layer.kind->out_segment, partial_);
  return absl::OkStatus();
}

absl::Status Decoder::NormWholeWidth(const Layer& layer) {
  const Kind& kind = *layer.kind;
  const float eps = arch_.rms_norm_eps();
  kernels::SquareSum* const q_sums = square_sums_;
  auto* const k_sums = reinterpret_cast<kernels::SquareSum*>(
      reinterpret_cast<std::byte*>(square_sums_) + device_->SquareSumBytes(rows_));
  device_->SumSquares(q_, rows_, kind.q_cols, 0, kind.q_cols, q_sums);
  device_->SumSquares(k_, rows_, kind.kv_cols, kind.counted_begin, kind.kv_cols, k_sums);
  TESSERA_RETURN_IF_ERROR(tp_->AllReduceSum(square_sums_, 2 * rows_));
  device_->NormalizeBySums(q_sums, kind.whole_q_cols, layer.weights->q_norm, eps, rows_,
                           kind.q_cols, q_);
  device_->NormalizeBySums(k_sums, kind.whole_kv_cols, layer.weights->k_norm, eps, rows_,
                           kind.kv_cols, k_);
  return absl::OkStatus();
}

void Decoder::FeedForward(const Layer& layer) {
  const LayerWeights& weights = *layer.weights;
  device_->MatMul({{weights.w_gate, nullptr, gate_}, {weights.w_up, nullptr, up_}}, normed_, rows_);
  device_->SiluMul(gate_, up_, rows_ * weights.w_gate.rows, gate_);
  device_->MatMulPartial(weights.w_down, gate_, rows_, layer.kind->down_segment, partial_);
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
