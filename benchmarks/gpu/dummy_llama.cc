#include "benchmarks/gpu/dummy_llama.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <utility>

namespace tessera::gpu_bench {
namespace {

using kernels::Activation;
using kernels::DType;

constexpr int kBlockTokens = 16;
constexpr int64_t kMostLogitRows = 128;
constexpr size_t kWriteBytes = 32 << 20;  // of weights at once
constexpr float kEps = 1e-5f;

#define GPU_BENCH_RETURN_IF_ERROR(expression)                       \
  do {                                                              \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)
#define GPU_BENCH_ASSIGN(target, expression)          \
  do {                                                \
    auto value_ = (expression);                       \
    if (!value_.ok()) return value_.status();         \
    target = *std::move(value_);                      \
  } while (false)

}  // namespace

LlamaShape LlamaShape::SliceOf(int ranks) const {
  LlamaShape slice = *this;
  slice.q_heads /= ranks;
  slice.kv_heads = std::max(1, kv_heads / ranks);
  slice.ffn /= ranks;
  slice.vocab /= ranks;
  return slice;
}

int64_t LlamaShape::LayerParameters() const {
  const int64_t attention =
      hidden * head_dim * (2 * int64_t{q_heads} + 2 * int64_t{kv_heads});
  return layers * (attention + 3 * hidden * ffn);
}

absl::StatusOr<std::unique_ptr<DummyLlama>> DummyLlama::Create(kernels::Device* device,
                                                               const LlamaShape& shape,
                                                               DType dtype, const Limits& limits) {
  std::unique_ptr<DummyLlama> llama(new DummyLlama(device, shape));
  GPU_BENCH_RETURN_IF_ERROR(llama->Load(dtype, limits));
  return llama;
}

absl::StatusOr<std::byte*> DummyLlama::Allocate(size_t bytes) {
  auto buffer = device_->Allocate(bytes);
  if (!buffer.ok()) return buffer.status();
  memory_.push_back(*std::move(buffer));
  return memory_.back().get();
}

absl::StatusOr<Activation*> DummyLlama::Activations(int64_t count) {
  std::byte* memory = nullptr;
  GPU_BENCH_ASSIGN(memory, Allocate(kernels::RowBytes(device_->ActivationType(), count)));
  return reinterpret_cast<Activation*>(memory);
}

absl::StatusOr<kernels::WeightMatrix> DummyLlama::Matrix(DType dtype, int64_t rows, int64_t cols) {
  kernels::WeightMatrix w{nullptr, dtype, rows, cols};
  GPU_BENCH_ASSIGN(w.data, Allocate(device_->WeightBytes(dtype, rows, cols)));
  const auto row_bytes = static_cast<int64_t>(kernels::RowBytes(dtype, cols));
  const int64_t group = device_->WeightRowGranularity();
  const int64_t piece =
      std::max<int64_t>(1, static_cast<int64_t>(kWriteBytes) / (row_bytes * group)) * group;
  for (int64_t row = 0; row < rows; row += piece) {
    GPU_BENCH_RETURN_IF_ERROR(
        device_->WriteWeights(w, row, std::min(piece, rows - row), random_.data()));
  }
  weight_bytes_ += rows * row_bytes;
  return w;
}

absl::Status DummyLlama::Load(DType dtype, const Limits& limits) {
  // No byte with bit 6: as halves and bfloat16 all are small numbers of either sign.
  std::mt19937 random(1);
  random_.resize(kWriteBytes + (1 << 20));
  for (std::byte& byte : random_) byte = static_cast<std::byte>(random() & 0xbf);

  const LlamaShape& s = shape_;
  const int64_t q_cols = int64_t{s.q_heads} * s.head_dim;
  const int64_t kv_cols = int64_t{s.kv_heads} * s.head_dim;
  const std::vector<float> ones(s.hidden, 1.0f);
  std::byte* norm = nullptr;
  GPU_BENCH_ASSIGN(norm, Allocate(s.hidden * sizeof(float)));
  GPU_BENCH_RETURN_IF_ERROR(device_->WriteBytes(ones.data(), s.hidden * sizeof(float), norm));
  norm_ = reinterpret_cast<const float*>(norm);

  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < s.layers; ++i) {
    Layer layer{norm_, norm_, {}, {}, {}, {}, {}, {}, {}};
    GPU_BENCH_ASSIGN(layer.wq, Matrix(dtype, q_cols, s.hidden));
    GPU_BENCH_ASSIGN(layer.wk, Matrix(dtype, kv_cols, s.hidden));
    GPU_BENCH_ASSIGN(layer.wv, Matrix(dtype, kv_cols, s.hidden));
    GPU_BENCH_ASSIGN(layer.wo, Matrix(dtype, s.hidden, q_cols));
    GPU_BENCH_ASSIGN(layer.gate, Matrix(dtype, s.ffn, s.hidden));
    GPU_BENCH_ASSIGN(layer.up, Matrix(dtype, s.ffn, s.hidden));
    GPU_BENCH_ASSIGN(layer.down, Matrix(dtype, s.hidden, s.ffn));
    layers_.push_back(layer);
  }
  const int64_t layer_bytes = weight_bytes_;
  // --quantization fp8 leaves the head as it is.
  const DType head_type = dtype == DType::kF8E4M3 ? DType::kBF16 : dtype;
  GPU_BENCH_ASSIGN(head_, Matrix(head_type, s.vocab, s.hidden));
  head_bytes_ = weight_bytes_ - layer_bytes;
  embedding_ = head_;  // tied: a step reads a few rows of it
  GPU_BENCH_RETURN_IF_ERROR(device_->Sync());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  load_bytes_per_second_ = static_cast<double>(weight_bytes_) / took.count();

  kv_blocks_ = (limits.kv_tokens + kBlockTokens - 1) / kBlockTokens + 64;
  GPU_BENCH_ASSIGN(kv_, Allocate(static_cast<size_t>(kv_blocks_ * kBlockTokens *
                                                     KvBytesPerToken())));
  const int64_t rows = device_->MaxRows(limits.tokens_per_step);
  GPU_BENCH_ASSIGN(hidden_, Activations(rows * s.hidden));
  GPU_BENCH_ASSIGN(normed_, Activations(rows * s.hidden));
  std::byte* partial = nullptr;
  GPU_BENCH_ASSIGN(partial, Allocate(device_->PartialBytes(rows * s.hidden)));
  partial_ = reinterpret_cast<kernels::Partial*>(partial);
  GPU_BENCH_ASSIGN(gathered_, Activations(kMostLogitRows * s.hidden));
  GPU_BENCH_ASSIGN(q_, Activations(rows * q_cols));
  GPU_BENCH_ASSIGN(k_, Activations(rows * kv_cols));
  GPU_BENCH_ASSIGN(v_, Activations(rows * kv_cols));
  GPU_BENCH_ASSIGN(attended_, Activations(rows * q_cols));
  GPU_BENCH_ASSIGN(gate_, Activations(rows * s.ffn));
  GPU_BENCH_ASSIGN(up_, Activations(rows * s.ffn));
  std::byte* logits = nullptr;
  GPU_BENCH_ASSIGN(logits, Allocate(kMostLogitRows * s.vocab * sizeof(float)));
  logits_ = reinterpret_cast<float*>(logits);
  for (int h = 0; h < s.q_heads; ++h) kv_head_of_.push_back(h * s.kv_heads / s.q_heads);
  return absl::OkStatus();
}

int64_t DummyLlama::KvBytesPerToken() const {
  return int64_t{2} * shape_.layers * shape_.kv_heads * shape_.head_dim *
         static_cast<int64_t>(kernels::BlockBytes(device_->KvType()));
}

kernels::KvCacheView DummyLlama::Cache(int layer) const {
  const int64_t store = kv_blocks_ * kBlockTokens * KvBytesPerToken() / shape_.layers / 2;
  return {.keys = kv_ + 2 * layer * store,
          .values = kv_ + (2 * layer + 1) * store,
          .type = device_->KvType(),
          .layout = device_->CacheLayout(),
          .num_blocks = static_cast<int>(kv_blocks_),
          .num_kv_heads = shape_.kv_heads,
          .block_tokens = kBlockTokens,
          .head_dim = shape_.head_dim};
}

kernels::AttentionShape DummyLlama::Heads() const {
  return {.num_q_heads = shape_.q_heads,
          .num_kv_heads = shape_.kv_heads,
          .head_dim = shape_.head_dim,
          .kv_head_of = kv_head_of_.data(),
          .scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim))};
}

absl::StatusOr<int64_t> DummyLlama::Begin(int64_t batch, int64_t context, int64_t tokens) {
  const int64_t n = batch * tokens;
  const int64_t blocks = (context + tokens + kBlockTokens - 1) / kBlockTokens;
  if (batch * blocks > kv_blocks_) return absl::InvalidArgumentError("the KV cache is too small");
  ids_.assign(n, 1);
  table_.resize(batch * blocks);
  // Neighbouring positions in blocks far apart, as after a while of serving.
  for (int64_t i = 0; i < batch * blocks; ++i) {
    table_[i] = static_cast<int32_t>(i % blocks * batch + i / blocks);
  }
  sequences_.clear();
  for (int64_t s = 0; s < batch; ++s) {
    sequences_.push_back({.first_token = static_cast<int32_t>(s * tokens),
                          .num_tokens = static_cast<int32_t>(tokens),
                          .start_position = static_cast<int32_t>(context),
                          .block_table = &table_[s * blocks],
                          .num_blocks = static_cast<int32_t>(blocks)});
  }
  cos_.assign(n * shape_.head_dim / 2, 0.6f);
  sin_.assign(n * shape_.head_dim / 2, 0.8f);
  return device_->BeginStep({.n = n,
                             .ids = ids_.data(),
                             .sequences = sequences_.data(),
                             .num_sequences = batch,
                             .rope = {cos_.data(), sin_.data(), shape_.head_dim, false},
                             .largest_group = (shape_.q_heads + shape_.kv_heads - 1) /
                                              shape_.kv_heads});
}

absl::Status DummyLlama::Step(int64_t batch, int64_t context, int64_t tokens) {
  int64_t rows = 0;
  GPU_BENCH_ASSIGN(rows, Begin(batch, context, tokens));
  device_->Embed(embedding_, 0, 1.0f, rows, hidden_);
  GPU_BENCH_RETURN_IF_ERROR(device_->Replayable(0, rows, [&] {
    RunLayers(rows);
    return absl::OkStatus();
  }));
  for (int64_t first = 0; first < batch; first += kMostLogitRows) {
    std::vector<int64_t> last;
    for (int64_t s = first; s < std::min(batch, first + kMostLogitRows); ++s) {
      last.push_back((s + 1) * tokens - 1);
    }
    const auto count = static_cast<int64_t>(last.size());
    device_->GatherRows(hidden_, last, shape_.hidden, gathered_);
    device_->RmsNorm(gathered_, norm_, kEps, count, shape_.hidden, normed_);
    device_->Logits(head_, normed_, count, logits_);
  }
  return absl::OkStatus();
}

void DummyLlama::RunLayers(int64_t rows) {
  device_->RmsNorm(hidden_, norm_, kEps, rows, shape_.hidden, normed_);
  for (int i = 0; i < shape_.layers; ++i) {
    const Layer& layer = layers_[i];
    device_->MatMul({{layer.wq, nullptr, q_}, {layer.wk, nullptr, k_}, {layer.wv, nullptr, v_}},
                    normed_, rows);
    device_->RotateAndStore(Heads(), Cache(i), rows, q_, k_, v_);
    device_->Attention(q_, Heads(), Cache(i), rows, attended_);
    device_->MatMulPartial(layer.wo, attended_, rows, 64, partial_);
    device_->AddRmsNorm(partial_, 1.0f, layer.ffn_norm, kEps, rows, shape_.hidden, hidden_,
                        normed_);
    device_->MatMul({{layer.gate, nullptr, gate_}, {layer.up, nullptr, up_}}, normed_, rows);
    device_->SiluMul(gate_, up_, rows * shape_.ffn, gate_);
    device_->MatMulPartial(layer.down, gate_, rows, 64, partial_);
    device_->AddRmsNorm(partial_, 1.0f, layer.attn_norm, kEps, rows, shape_.hidden, hidden_,
                        normed_);
  }
}

absl::Status DummyLlama::AttentionOnly(int64_t batch, int64_t context) {
  int64_t rows = 0;
  GPU_BENCH_ASSIGN(rows, Begin(batch, context, 1));
  device_->Attention(q_, Heads(), Cache(0), rows, attended_);
  return absl::OkStatus();
}

}  // namespace tessera::gpu_bench
