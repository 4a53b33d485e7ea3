// The operations of a decoder at transformer granularity, on one device.
//
// What is in device memory has a type of its own, so that a host pointer cannot be taken for it:
// Activation* (rows of the device's activation type), WeightMatrix (a matrix in whatever layout the
// device multiplies best), KvCacheView. Plain float pointers named `weight`, `bias`, `eps` are
// float32 vectors in device memory. Host memory is said to be so.
//
// Ownership: every pointer is borrowed and lives in the device's memory (Allocate). Threads: one
// caller at a time. Order: operations run in the order they were called; their results may be read
// by the host only after Sync() (the cpu device is always in sync). An operation that fails on an
// asynchronous device makes the following Sync fail, and every one after it.
//
// Shapes are written (rows, cols), row-major. Outputs must not overlap inputs except where "in
// place" is said. Shapes are the caller's promise: they are checked when weights are loaded, not
// here (debug builds assert them).
//
// A step: BeginStep says which tokens it has; the operations after it that speak of "the step's
// tokens" mean those. `n` counts rows, and is what BeginStep returned or fewer.
//
// Determinism: every output element is computed in an order fixed by the model and the operation
// alone. It does not depend on n, on the other tokens of the step, on how a prompt was cut into
// chunks, on the number of threads, or on how positions are spread over KV blocks. On the cpu
// device the same holds between runs of one instruction set; different sets may differ in the last
// bits.
//
//   auto device = MakeDevice("cpu", {.threads = 2});
//   const int64_t n = (*device)->BeginStep(step);
//   (*device)->Embed(table, first_row, 1.0f, n, hidden);
//   (*device)->RmsNorm(hidden, weight, 1e-5f, n, hidden_size, normed);
#ifndef TESSERA_KERNELS_DEVICE_H_
#define TESSERA_KERNELS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/sampling_queue.h"
#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels {

// Elements of the device's activation type in its memory: float32 on cpu, bfloat16 on cuda. Never
// defined: only the device knows what it points to.
struct Activation;

// Sums of a product whose columns are cut, before the ranks add theirs up; never defined either. On
// cpu float64: sums of float32 numbers are exact in it but for a rare last bit, so that the order
// in which ranks and columns are added does not show, and a layout computes what every other does.
// On cuda it is what Activation is.
struct Partial;

// Sums of squares of rows whose columns are spread over ranks, before the ranks add theirs up; never
// defined either. float64 on cpu, exact as Partial is; float32 on cuda.
struct SquareSum;

// One of several products that share their input.
struct Product {
  WeightMatrix w;               // (w.rows, w.cols)
  const float* bias = nullptr;  // (w.rows) or null
  Activation* out = nullptr;    // (n, w.rows)
};

class Device {
 public:
  virtual ~Device() = default;

  // "cpu avx512", "cpu avx2", "cpu scalar", "cuda 0: NVIDIA H100", ...
  virtual std::string Name() const = 0;

  // kF32 or kBF16.
  virtual DType ActivationType() const = 0;
  // What keys and values are kept as, kF32 or kBF16, and how they lie.
  virtual DType KvType() const = 0;
  virtual KvLayout CacheLayout() const = 0;

  // Uninitialized device memory, aligned to 64 bytes. RESOURCE_EXHAUSTED when there is none.
  // Freed by the returned owner.
  using Buffer = std::unique_ptr<std::byte[], void (*)(std::byte*)>;
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // Waits until all operations called before are done. An asynchronous failure shows here.
  virtual absl::Status Sync() = 0;
  // Whether they are done now. For those who must not wait without an end; an asynchronous failure
  // shows here too.
  virtual absl::StatusOr<bool> Idle() { return true; }

  // -- weights ------------------------------------------------------------------------------------

  // Bytes of device memory for a matrix, at least those of its rows.
  virtual size_t WeightBytes(DType dtype, int64_t rows, int64_t cols) const = 0;
  // How many rows WriteWeights takes at once: a multiple of this, but for the last of the matrix.
  virtual int64_t WeightRowGranularity() const = 0;
  // How many threads should read weights side by side to keep WriteWeights busy.
  virtual int WeightReaders() const { return 1; }
  // Rows [row, row + count) of `w`, from host memory in tensor.h's row-major form. `row` is a
  // multiple of the granularity. rows_data may be reused at once.
  virtual absl::Status WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                                    const std::byte* rows_data) = 0;
  // Bytes to and from device memory (norm weights and biases are float32 there). Both wait for the
  // device.
  virtual absl::Status WriteBytes(const void* from, size_t bytes, void* to) = 0;
  virtual absl::Status ReadBytes(const void* from, size_t bytes, void* to) = 0;

  // -- activations between host and device --------------------------------------------------------

  // Activation elements as float32 in host memory. Waits for the device.
  virtual absl::Status ReadActivations(const Activation* from, int64_t count, float* to) = 0;
  virtual absl::Status WriteActivations(const float* from, int64_t count, Activation* to) = 0;
  // The elements themselves where they are float32 in host memory (cpu), else null.
  virtual float* HostFloats(Activation* x) = 0;
  // The same of partial sums where they are float64 in host memory, and copies where they are not.
  virtual size_t PartialBytes(int64_t count) const = 0;
  virtual double* HostPartials(Partial* x) = 0;
  virtual absl::Status ReadPartials(const Partial* from, int64_t count, double* to) = 0;
  virtual absl::Status WritePartials(const double* from, int64_t count, Partial* to) = 0;
  // Bytes of sums of squares, and the sums themselves where they are float64 in host memory, else
  // null: float32 in the device's.
  virtual size_t SquareSumBytes(int64_t count) const = 0;
  virtual double* HostSquareSums(SquareSum* x) = 0;
  // Float32 values (logits) in host memory, valid until the next call: on cpu they are `from`
  // itself. Waits for the device.
  virtual absl::StatusOr<const float*> ReadFloats(const float* from, int64_t count) = 0;

  // -- a step -------------------------------------------------------------------------------------

  // Takes the step's tokens. Everything in `step` is host memory and borrowed until the next
  // BeginStep. Returns how many rows the step's operations shall compute: step.n, or more where the
  // device replays recorded work of fixed sizes; what the rows beyond step.n hold is of no meaning,
  // they store no keys and values. At most MaxRows(step.n).
  virtual absl::StatusOr<int64_t> BeginStep(const StepView& step) = 0;
  virtual int64_t MaxRows(int64_t n) const { return n; }

  // Runs `work`, which calls operations for n rows of the step; a device may record them the first
  // time and replay the recording whenever the same `key` and n come again, so `work` must call the
  // same operations on the same pointers each time. Its Status is returned.
  virtual absl::Status Replayable(int key, int64_t n, absl::FunctionRef<absl::Status()> work) {
    static_cast<void>(key), static_cast<void>(n);
    return work();
  }

  // Drops all recordings: something that they use besides the device is about to go.
  virtual void ForgetRecordings() {}

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
  // x[r] = x[r] / sqrt(sums[r] / width + eps) * weight, in place, where sums are those of all ranks'
  // columns, `width` of them. x: (rows, cols); weight: (cols).
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
  // (RmsNorm over head_dim), turns it by the token's row of the step's rotary table if the shape has
  // rotary, and stores keys and values at the tokens' places in the cache. In place. q: (n,
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

  // The most candidates that it lists of a row; 0: it does not sample, read the logits.
  virtual int MaxCandidates() const { return 0; }
  // Samples from row i of logits (rows.size(), vocab) in device memory, those of tokens first_id
  // ..., as rows[i] asks. sampled: (rows.size()); candidates: (rows.size(), MaxCandidates()), best
  // first, as many of a row as were asked for. Waits for the device.
  virtual absl::Status SampleRows(const float* logits, int64_t vocab, int32_t first_id,
                                  absl::Span<const SampleRow> rows, SampledRow* sampled,
                                  Candidate* candidates) {
    static_cast<void>(logits), static_cast<void>(vocab), static_cast<void>(first_id);
    static_cast<void>(rows), static_cast<void>(sampled), static_cast<void>(candidates);
    return absl::UnimplementedError("this device does not sample");
  }

  // -- async scheduling ---------------------------------------------------------------------------

  // Null: what this device samples is known to the host before the next step begins.
  virtual SamplingQueue* sampling_queue() { return nullptr; }

  // Whether the device can be given this step while it is at work on the one before: nothing that
  // the step needs (memory that grows, work that was never run) makes the host wait for the device.
  virtual bool TakesBehind(const StepView& step) const {
    static_cast<void>(step);
    return false;
  }
};

struct DeviceOptions {
  int gpu = 0;  // cuda: which of the machine's
  // cuda: a row's bits do not depend on how many rows there are: what goes through cuBLASLt does so
  // by one algorithm for each matrix, always with the same number of rows. Else large products take
  // what it advises, whose sums may be cut differently for steps of different sizes.
  bool deterministic = false;
  int threads = 1;  // cpu: compute threads, the caller's included
  // cpu: "auto" = the best this machine has; or "scalar", "avx2", "avx512", ... (for tests).
  std::string instruction_set = "auto";
  // What keys and values are kept as: kF32, or kBF16 at half the bytes. cuda: always kBF16.
  DType kv_type = DType::kF32;
};

// kind: "cpu", "cuda", or "auto": cuda where build and machine have it, else cpu. NOT_FOUND for a
// kind that build or machine does not have; UNIMPLEMENTED for an instruction set this machine does
// not have.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view kind,
                                                   const DeviceOptions& options);

// How many GPUs build and machine have between them, at least 1. NOT_FOUND saying why there is
// none.
absl::StatusOr<int> NumGpus();

struct MemoryInfo {
  int64_t free = 0;  // bytes that nobody has allocated
  int64_t total = 0;
};
// Of one of them.
absl::StatusOr<MemoryInfo> MemoryOf(int gpu);

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DEVICE_H_
