// Products of many rows through cuBLASLt, in bfloat16 with sums in float32. Weights of 8-bit floats
// are multiplied as such where the card can (Hopper): the rows of x are rounded to E4M3 too, with a
// scale each, and the library multiplies both scales in.
//
// Which algorithm multiplies a shape is asked once, per matrix shape and power of two of rows, and
// kept for the life of the process's device: the same step gives the same bits again. Weights of
// other types are rounded to bfloat16 first (LaunchDequantize), into memory that all products
// share.
//
// Deterministic, a row's bits do not depend on how many rows there are nor on its place among them.
// The library promises the same bits for the same call on the same kind of card, and nothing for
// another number of rows: it may take other tiles, or cut the sum. So
//   - whether the library multiplies is decided by the matrix alone, never by n: it gets those that
//     it can take as they lie, of bfloat16 and, on Hopper, of 8-bit floats;
//   - every call has kFixedRows rows: what is missing of the last ones is made up from memory that
//     nobody reads;
//   - of the algorithms it offers for that shape the best is taken that sums in one sequence
//     (CUBLASLT_REDUCTION_SCHEME_NONE, no split of the columns), once.
//
//   LargeMatMul large(errors, stream, outgrown, {.capability = 9});
//   if (large.Takes(product, n)) large.Multiply({&product, 1}, x, n);
#ifndef TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_
#define TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/types/span.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/ops.h"

namespace tessera::kernels::cuda {

class LargeMatMul {
 public:
  struct Options {
    int capability = 0;  // the major number of the card's
    bool deterministic = false;
  };
  // outgrown: where memory goes that was too small.
  LargeMatMul(CudaErrors& errors, cudaStream_t stream, Outgrown& outgrown, const Options& options)
      : errors_(errors),
        stream_(stream),
        outgrown_(outgrown),
        has_f8_(options.capability == 9),
        deterministic_(options.deterministic) {}
  ~LargeMatMul();

  // Rows of every call of the library's when deterministic: as many as cost little more than one
  // (a matrix is still read for longer than it is multiplied).
  static constexpr int64_t kFixedRows = 128;

  // Whether cuBLASLt is the better way, and takes the shape: rows aligned to 16 bytes, no bias.
  bool Takes(const MatMulProduct& product, int64_t n) const;

  // out = x · wᵀ for products of the same x. Where the library has no algorithm, LaunchTiledMatMul
  // does it.
  bool Multiply(absl::Span<const MatMulProduct> products, const BFloat16* x, int64_t n);

 private:
  // rows, cols, n up to a power of two, as 8-bit floats
  using Shape = std::tuple<int64_t, int64_t, int64_t, bool>;

  // The four descriptions of a product; they exist only while it is issued.
  struct Description;

  bool Start();
  // Multiply when deterministic: kFixedRows rows at a time, of which the last may be fewer.
  bool MultiplyFixed(absl::Span<const MatMulProduct> products, const BFloat16* x, int64_t n);
  bool MultiplyFixedRows(absl::Span<const MatMulProduct> products, const BFloat16* x,
                         int64_t count);
  bool Grow(DeviceBuffer& memory, int64_t bytes);
  bool Copy(BFloat16* to, const BFloat16* from, int64_t count);
  bool InF8(const MatMulProduct& product) const;
  bool MultiplyBFloat16(const MatMulProduct& product, const BFloat16* x, int64_t n);
  // x: what QuantizeInput has taken, at most kF8Rows rows, and behind them up to n any.
  bool MultiplyF8(const MatMulProduct& product, const BFloat16* x, int64_t n);
  // The rows of x into input_f8_, behind their scales.
  bool QuantizeInput(const BFloat16* x, int64_t n, int64_t cols);
  // Null: a failure. Empty: the library has none.
  const std::optional<cublasLtMatmulAlgo_t>* AlgorithmFor(const Description& description,
                                                          const WeightMatrix& w, int64_t n,
                                                          bool f8);
  bool Issue(const Description& description, const cublasLtMatmulAlgo_t& algorithm, const void* w,
             const void* x, BFloat16* out);
  const BFloat16* AsBFloat16(const WeightMatrix& w);
  bool Choose(const Description& description, std::optional<cublasLtMatmulAlgo_t>& algorithm);
  // `sequential`: whether it sums in one sequence.
  bool CheckSequence(const cublasLtMatmulAlgo_t& algorithm, bool& sequential);

  CudaErrors& errors_;
  const cudaStream_t stream_;
  Outgrown& outgrown_;
  const bool has_f8_;
  const bool deterministic_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer workspace_;
  DeviceBuffer rounded_;    // one matrix in bfloat16
  DeviceBuffer input_f8_;   // rows of x as E4M3, behind kF8Rows scales
  DeviceBuffer fixed_x_;    // kFixedRows rows, of which the first are of x
  DeviceBuffer fixed_out_;  // their products
  std::map<Shape, std::optional<cublasLtMatmulAlgo_t>> algorithms_;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_
