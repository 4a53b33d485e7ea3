// The operations of a decoder at transformer granularity, on one device.
//
// Ownership: every pointer is borrowed and lives in the device's memory (Allocate). Threads: one
// caller at a time. Order: operations run in the order they were called; their results may be read
// by the host only after Sync() (the cpu device is always in sync).
//
// Shapes are written (rows, cols) beside each pointer, row-major, float32 unless a DType says
// otherwise. `n` is the number of tokens of the step. Outputs must not overlap inputs except where
// "in place" is said. Shapes are the caller's promise: they are checked when weights are loaded,
// not here (debug builds assert them).
//
// Determinism: every output element is computed in an order fixed by the model and the operation
// alone. It does not depend on n, on the other tokens of the step, on the number of threads, or on
// how positions are spread over KV blocks. On the cpu device the same holds between runs of one
// instruction set; AVX2 and AVX-512 may differ in the last bits.
//
//   auto device = MakeDevice("cpu", {.threads = 2});
//   (*device)->RmsNorm(x, weight, 1e-5f, n, hidden, out);
#ifndef TESSERA_KERNELS_DEVICE_H_
#define TESSERA_KERNELS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels {

class Device {
 public:
  virtual ~Device() = default;

  // "cpu avx512", "cpu avx2", "cpu scalar", ...
  virtual std::string Name() const = 0;

  // Uninitialized device memory, aligned to 64 bytes. RESOURCE_EXHAUSTED when there is none.
  // Freed by the returned owner.
  using Buffer = std::unique_ptr<std::byte[], void (*)(std::byte*)>;
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // Waits until all operations called before are done. An asynchronous failure shows here.
  virtual absl::Status Sync() = 0;

  // out[t] = row ids[t] - first_row of `table` as float32, or zeros where that row is not in the
  // table (another rank's). ids: (n) host; table: (rows, hidden); out: (n, hidden).
  virtual void Embed(const MatrixView& table, const int32_t* ids, int64_t first_row, int64_t n,
                     float* out) = 0;

  // out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight. x, out: (rows, cols), may be the same;
  // weight: (cols). Also the q/k norm, with rows = n * heads and cols = head_dim.
  virtual void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
                       float* out) = 0;

  // out = x · wᵀ + bias. x: (n, w.cols); w: (w.rows, w.cols) of any DType; bias: (w.rows) or null;
  // out: (n, w.rows). Accumulates in float32.
  virtual void MatMul(const MatrixView& w, const float* x, const float* bias, int64_t n,
                      float* out) = 0;

  // Turns the leading rope_dim elements of each head by the table's row of its token, in place.
  // x: (n, heads, head_dim); rows: (n) host.
  virtual void Rope(const RopeTable& table, const int32_t* rows, int64_t n, int heads,
                    int head_dim, float* x) = 0;

  // Stores the step's keys and values at their places. k, v: (n, num_kv_heads, head_dim).
  virtual void StoreKv(const float* k, const float* v, const TokenPlacement& where, int64_t n,
                       const KvCacheView& cache) = 0;

  // The keys and values of block `source` over those of block `destination`, another one.
  virtual void CopyKvBlock(const KvCacheView& cache, int source, int destination) = 0;

  // Causal attention of each token over positions 0..its own (within the window), all of which are
  // in the cache. q, out: (n, num_q_heads, head_dim). Softmax in float32.
  virtual void Attention(const float* q, const TokenPlacement& where, const AttentionShape& shape,
                         const KvCacheView& cache, int64_t n, float* out) = 0;

  // out = silu(gate) * up, elementwise; out may be gate. All (count).
  virtual void SiluMul(const float* gate, const float* up, int64_t count, float* out) = 0;

  // x += y, elementwise. Both (count).
  virtual void Add(const float* y, int64_t count, float* x) = 0;
};

struct DeviceOptions {
  int threads = 1;  // cpu: compute threads, the caller's included
  // cpu: "auto" = the best this machine has; or "scalar", "avx2", "avx512" (for tests).
  std::string instruction_set = "auto";
};

// kind: "cpu". NOT_FOUND for a kind this build does not have; UNIMPLEMENTED for an instruction set
// this machine does not have.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view kind,
                                                   const DeviceOptions& options);

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DEVICE_H_
