// The DeviceOps of a GPU.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device_impl.h"

namespace tessera::kernels::cuda {
namespace {

// Attention items that a recorded step runs side by side, per multiprocessor.
constexpr int64_t kItemsPerMultiprocessor = 8;

KvCache CacheOf(const KvCacheView& view) {
  return {.keys = static_cast<BFloat16*>(view.keys),
          .values = static_cast<BFloat16*>(view.values),
          .num_blocks = view.num_blocks,
          .num_kv_heads = view.num_kv_heads,
          .block_tokens = view.block_tokens,
          .head_dim = view.head_dim};
}

}  // namespace

void CudaDevice::Embed(const WeightMatrix& table, int64_t first_row, float scale, int64_t n,
                       Activation* out) {
  if (!errors_.ok() || n == 0) return;
  errors_.CheckLaunch("Embed",
                      LaunchEmbed(table, first_row, scale, arrays_, n, Bf16(out), stream_));
}

void CudaDevice::RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows,
                         int64_t cols, Activation* out) {
  if (!errors_.ok() || rows == 0) return;
  errors_.CheckLaunch("RmsNorm",
                      LaunchRmsNorm(Bf16(x), weight, eps, rows, cols, Bf16(out), stream_));
}

void CudaDevice::AddRmsNorm(const Partial* y, float scale, const float* weight, float eps,
                            int64_t rows, int64_t cols, Activation* x, Activation* out) {
  if (!errors_.ok() || rows == 0) return;
  errors_.CheckLaunch("AddRmsNorm", LaunchAddRmsNorm(Bf16(y), scale, weight, eps, rows, cols,
                                                     Bf16(x), Bf16(out), stream_));
}

void CudaDevice::Add(const Partial* y, float scale, int64_t count, Activation* x) {
  if (!errors_.ok() || count == 0) return;
  errors_.CheckLaunch("Add", LaunchAdd(Bf16(y), scale, count, Bf16(x), stream_));
}

void CudaDevice::AddNormed(const Partial* y, float scale, const float* weight, float eps,
                           int64_t rows, int64_t cols, Activation* x) {
  if (!errors_.ok() || rows == 0) return;
  errors_.CheckLaunch("AddNormed",
                      LaunchAddNormed(Bf16(y), scale, weight, eps, rows, cols, Bf16(x), stream_));
}

void CudaDevice::SumSquares(const Activation* x, int64_t rows, int64_t cols, int64_t begin,
                            int64_t end, SquareSum* sums) {
  if (!errors_.ok() || rows == 0) return;
  errors_.CheckLaunch("SumSquares",
                      LaunchSumSquares(Bf16(x), rows, cols, begin, end, SumFloats(sums), stream_));
}

void CudaDevice::NormalizeBySums(const SquareSum* sums, int64_t width, const float* weight,
                                 float eps, int64_t rows, int64_t cols, Activation* x) {
  if (!errors_.ok() || rows == 0) return;
  errors_.CheckLaunch("NormalizeBySums", LaunchNormalizeBySums(SumFloats(sums), width, weight, eps,
                                                               rows, cols, Bf16(x), stream_));
}

void CudaDevice::MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) {
  if (!errors_.ok() || n == 0) return;
  MatMulProduct together[kMaxProducts], large[kMaxProducts];
  int count = 0, large_count = 0;
  for (const Product& p : products) {
    const MatMulProduct product{p.w, p.bias, Bf16(p.out)};
    if (large_->Takes(product, n)) {
      large[large_count++] = product;
    } else {
      together[count++] = product;
    }
    if (count == kMaxProducts) MultiplyTogether(together, std::exchange(count, 0), x, n);
    if (large_count == kMaxProducts) MultiplyLarge(large, std::exchange(large_count, 0), x, n);
  }
  if (count > 0) MultiplyTogether(together, count, x, n);
  if (large_count > 0) MultiplyLarge(large, large_count, x, n);
}

void CudaDevice::MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n,
                               int /*segment*/, Partial* out) {
  MatMul({{w, nullptr, AsActivation(out)}}, x, n);
}

void CudaDevice::Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) {
  if (!errors_.ok() || n == 0) return;
  errors_.CheckLaunch("Logits", LaunchLogits(w, Bf16(x), n, out, stream_));
}

void CudaDevice::SiluMul(const Activation* gate, const Activation* up, int64_t count,
                         Activation* out) {
  if (!errors_.ok() || count == 0) return;
  errors_.CheckLaunch("SiluMul", LaunchSiluMul(Bf16(gate), Bf16(up), count, Bf16(out), stream_));
}

void CudaDevice::RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                                Activation* q, Activation* k, const Activation* v) {
  constexpr char kOperation[] = "RotateAndStore";
  if (!errors_.ok() || n == 0) return;
  AttentionHeads heads;
  if (!HeadsOf(kOperation, shape, heads)) return;
  errors_.CheckLaunch(
      kOperation, LaunchRotateAndStore(heads, {shape.q_norm, shape.k_norm, shape.norm_eps}, arrays_,
                                       CacheOf(cache), n, Bf16(q), Bf16(k), Bf16(v), stream_));
}

void CudaDevice::Attention(const Activation* q, const AttentionShape& shape,
                           const KvCacheView& cache, int64_t n, Activation* out) {
  constexpr char kOperation[] = "Attention";
  if (!errors_.ok() || n == 0) return;
  AttentionHeads heads;
  if (!HeadsOf(kOperation, shape, heads)) return;
  if (heads.largest_group > largest_group_) {
    errors_.Fail(kOperation, absl::StatusCode::kInternal,
                 absl::StrCat(heads.largest_group,
                              " query heads read one KV head; the step was "
                              "begun for at most ",
                              largest_group_));
    return;
  }
  const int64_t capacity = slot_->capacity().decode_items;
  const size_t scratch_bytes = DecodeScratchBytes(heads, capacity);
  if (scratch_bytes > decode_scratch_.bytes() && !graphs_->recording()) graphs_->Retire();
  if (!decode_scratch_.Grow(errors_, kOperation, scratch_bytes, outgrown_)) return;
  if (counts_.decode_items > 0 || replayable_) {
    errors_.CheckLaunch(
        kOperation,
        LaunchDecodeAttention(Bf16(q), heads, arrays_, CacheOf(cache), n, GridItems(capacity),
                              decode_scratch_.data(), scratch_bytes, Bf16(out), stream_));
  }
  if (counts_.prefill_items > 0) {
    errors_.CheckLaunch(kOperation,
                        LaunchPrefillAttention(Bf16(q), heads, arrays_, CacheOf(cache), n,
                                               counts_.prefill_items, Bf16(out), stream_));
  }
}

void CudaDevice::CopyKvBlock(const KvCacheView& cache, int source, int destination) {
  if (!errors_.ok()) return;
  errors_.CheckLaunch("CopyKvBlock",
                      LaunchCopyKvBlock(CacheOf(cache), source, destination, stream_));
}

void CudaDevice::GatherRows(const Activation* x, absl::Span<const int64_t> rows, int64_t cols,
                            Activation* out) {
  constexpr char kOperation[] = "GatherRows";
  if (!errors_.ok() || rows.empty()) return;
  const size_t bytes = rows.size() * sizeof(int64_t);
  if (!rows_copied_.Wait(errors_, kOperation) ||
      !host_rows_.Grow(errors_, kOperation, bytes, outgrown_) ||
      !rows_.Grow(errors_, kOperation, bytes, outgrown_)) {
    return;
  }
  std::memcpy(host_rows_.data(), rows.data(), bytes);
  Copy(kOperation, rows_.data(), host_rows_.data(), bytes, cudaMemcpyHostToDevice);
  rows_copied_.Record(errors_, kOperation, stream_);
  const int64_t x_rows = *std::max_element(rows.begin(), rows.end()) + 1;
  errors_.CheckLaunch(
      kOperation, LaunchGatherRows(Bf16(x), x_rows, rows_.as<int64_t>(),
                                   static_cast<int64_t>(rows.size()), cols, Bf16(out), stream_));
}

void CudaDevice::MultiplyTogether(const MatMulProduct* products, int count, const Activation* x,
                                  int64_t n) {
  if (!errors_.ok()) return;
  errors_.CheckLaunch("MatMul", n <= kSmallMatMulRows
                                    ? LaunchSmallMatMul(products, count, Bf16(x), n, stream_)
                                    : LaunchTiledMatMul(products, count, Bf16(x), n, stream_));
}

void CudaDevice::MultiplyLarge(const MatMulProduct* products, int count, const Activation* x,
                               int64_t n) {
  if (!errors_.ok()) return;
  large_->Multiply({products, static_cast<size_t>(count)}, Bf16(x), n);
}

int64_t CudaDevice::GridItems(int64_t capacity) const {
  if (!replayable_) return std::max<int64_t>(counts_.decode_items, 1);
  return std::max<int64_t>(1, std::min(capacity, kItemsPerMultiprocessor * multiprocessors_));
}

bool CudaDevice::HeadsOf(const char* operation, const AttentionShape& shape,
                         AttentionHeads& heads) {
  begins_.assign(1, 0);
  int largest = 0;
  for (int kv = 0, h = 0; kv < shape.num_kv_heads; ++kv) {
    while (h < shape.num_q_heads && shape.kv_head_of[h] <= kv) ++h;
    largest = std::max(largest, h - begins_.back());
    begins_.push_back(h);
  }
  auto [place, is_new] = groupings_.try_emplace(begins_);
  const size_t bytes = begins_.size() * sizeof(int32_t);
  Grouping& grouping = place->second;
  if (is_new) {
    if (!grouping.host.Reserve(errors_, operation, bytes) ||
        !grouping.device.Reserve(errors_, operation, bytes)) {
      return false;
    }
    std::memcpy(grouping.host.data(), begins_.data(), bytes);
    Copy(operation, grouping.device.data(), grouping.host.data(), bytes, cudaMemcpyHostToDevice);
  }
  heads = {.num_q_heads = shape.num_q_heads,
           .num_kv_heads = shape.num_kv_heads,
           .head_dim = shape.head_dim,
           .group_begins = grouping.device.as<int32_t>(),
           .largest_group = largest,
           .scale = shape.scale,
           .sliding_window = shape.sliding_window,
           .rotary = shape.rotary};
  return errors_.ok();
}

}  // namespace tessera::kernels::cuda
