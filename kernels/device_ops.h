// The operations of a decoder at transformer granularity, and the step whose tokens they work on.
//
// A step: BeginStep says which tokens it has; the operations after it that speak of "the step's
// tokens" mean those. `n` counts rows, and is what BeginStep returned or fewer.
//
// Every pointer is borrowed and lives in the device's memory (device_memory.h has the types).
// Shapes are written (rows, cols), row-major. Outputs must not overlap inputs except where "in
// place" is said. Shapes are the caller's promise: they are checked when weights are loaded, not
// here (debug builds assert them). Threads, order, failures and determinism: as the device
// (device.h).
//
//   TESSERA_ASSIGN_OR_RETURN(const int64_t n, ops.BeginStep(step));
//   ops.Embed(table, first_row, 1.0f, n, hidden);
//   ops.RmsNorm(hidden, weight, 1e-5f, n, hidden_size, normed);
#ifndef TESSERA_KERNELS_DEVICE_OPS_H_
#define TESSERA_KERNELS_DEVICE_OPS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device_memory.h"
#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels {

// One of several products that share their input.
struct Product {
  WeightMatrix w;               // (w.rows, w.cols)
  const float* bias = nullptr;  // (w.rows) or null
  Activation* out = nullptr;    // (n, w.rows)
};

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // Takes the step's tokens. Everything in `step` is host memory and borrowed until the next
  // BeginStep. Returns how many rows the step's operations shall compute: step.n, or more where the
  // device replays recorded work of fixed sizes; what the rows beyond step.n hold is of no meaning,
  // they store no keys and values. At most MaxRows(step.n).
  virtual absl::StatusOr<int64_t> BeginStep(const StepView& step) = 0;
  virtual int64_t MaxRows(int64_t n) const { return n; }

  // out[t] = scale * row id - first_row of `table` for the id of the step's token t, or zeros where
  // that row is not in the table (another rank's). table: (rows, hidden); out: (n, hidden).
  virtual void Embed(const WeightMatrix& table, int64_t first_row, float scale, int64_t n,
                     Activation* out) = 0;

  // out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight. x, out: (rows, cols), may be the same;
  // weight: (cols).
  virtual void RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows,
                       int64_t cols, Activation* out) = 0;

  // x += scale * y, then as RmsNorm(x) into out. y, x, out: (rows, cols); three different places.
  virtual void AddRmsNorm(const Partial* y, float scale, const float* weight, float eps,
                          int64_t rows, int64_t cols, Activation* x, Activation* out) = 0;

  // x += scale * y, elementwise. Both (count).
  virtual void Add(const Partial* y, float scale, int64_t count, Activation* x) = 0;

  // x += scale * RmsNorm(y). y, x: (rows, cols); weight: (cols).
  virtual void AddNormed(const Partial* y, float scale, const float* weight, float eps,
                         int64_t rows, int64_t cols, Activation* x) = 0;

  // RmsNorm of rows that are wider than this rank's columns, in two halves:
  // sums[r] = the sum of x[r][c]^2 over columns [begin, end). x: (rows, cols).
  virtual void SumSquares(const Activation* x, int64_t rows, int64_t cols, int64_t begin,
                          int64_t end, SquareSum* sums) = 0;
  // x[r] = x[r] / sqrt(sums[r] / width + eps) * weight, in place, where sums are those of all
  // ranks' columns, `width` of them. x: (rows, cols); weight: (cols).
  virtual void NormalizeBySums(const SquareSum* sums, int64_t width, const float* weight, float eps,
                               int64_t rows, int64_t cols, Activation* x) = 0;

  // out = x · wᵀ + bias for each product. x: (n, cols of every w). Sums in float32.
  virtual void MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) = 0;

  // out = x · wᵀ, to be added up over ranks. Columns are summed in segments, counted from the
  // matrix's first: cuts at multiples of `segment` do not show in the sums. segment: 64 or 32, or 1
  // (slow, for floating types alone).
  virtual void MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n, int segment,
                             Partial* out) = 0;

  // out = silu(gate) * up, elementwise; out may be gate. All (count).
  virtual void SiluMul(const Activation* gate, const Activation* up, int64_t count,
                       Activation* out) = 0;

  // For the step's n tokens: normalizes each head of q and k where the shape has q_norm and k_norm
  // (RmsNorm over head_dim), turns it by the token's row of the step's rotary table if the shape
  // has rotary, and stores keys and values at the tokens' places in the cache. In place. q: (n,
  // num_q_heads, head_dim); k, v: (n, num_kv_heads, head_dim).
  virtual void RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                              Activation* q, Activation* k, const Activation* v) = 0;

  // Causal attention of each token over positions 0..its own (within the window), all in the cache.
  // q, out: (n, num_q_heads, head_dim). Softmax in float32; q and weights may get the cache's type.
  virtual void Attention(const Activation* q, const AttentionShape& shape, const KvCacheView& cache,
                         int64_t n, Activation* out) = 0;

  // The keys and values of block `source` over those of block `destination`, another one.
  virtual void CopyKvBlock(const KvCacheView& cache, int source, int destination) = 0;

  // -- the output head ----------------------------------------------------------------------------

  // out[i] = x[rows[i]]. x: (any, cols); rows: (count) host; out: (count, cols).
  virtual void GatherRows(const Activation* x, absl::Span<const int64_t> rows, int64_t cols,
                          Activation* out) = 0;

  // out = x · wᵀ as float32 in device memory. x: (n, w.cols); out: (n, w.rows).
  virtual void Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DEVICE_OPS_H_
