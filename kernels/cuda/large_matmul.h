// Products of many rows through cuBLASLt, in bfloat16 with sums in float32.
//
// Which algorithm multiplies a shape is asked once, per matrix shape and power of two of rows, and
// kept for the life of the process's device: the same step gives the same bits again. Weights of
// other types are rounded to bfloat16 first (LaunchDequantize), into memory that all products share.
//
//   LargeMatMul large(errors, stream);
//   if (LargeMatMul::Fits(product, n)) large.Multiply(product, x, n);
#ifndef TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_
#define TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/ops.h"

namespace tessera::kernels::cuda {

class LargeMatMul {
 public:
  LargeMatMul(CudaErrors& errors, cudaStream_t stream) : errors_(errors), stream_(stream) {}
  ~LargeMatMul();

  // Whether cuBLASLt is the better way, and takes the shape: rows aligned to 16 bytes, no bias.
  static bool Fits(const MatMulProduct& product, int64_t n);

  // Frees what has been outgrown. To be called between steps: freeing waits for the stream, which
  // within a step waits for other ranks.
  void FreeOutgrown() { outgrown_.clear(); }

  // out = x · wᵀ. Where the library has no algorithm, LaunchTiledMatMul does it.
  bool Multiply(const MatMulProduct& product, const BFloat16* x, int64_t n);

 private:
  using Shape = std::tuple<int64_t, int64_t, int64_t>;  // rows, cols, n up to a power of two

  // The four descriptions of a product; they exist only while it is issued.
  struct Description;

  bool Start();
  const BFloat16* AsBFloat16(const WeightMatrix& w);
  bool Choose(const Description& description, std::optional<cublasLtMatmulAlgo_t>& algorithm);

  CudaErrors& errors_;
  const cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory workspace_;
  DeviceMemory rounded_;  // one matrix in bfloat16
  std::vector<DeviceMemory> outgrown_;  // that work in the stream may still use
  std::map<Shape, std::optional<cublasLtMatmulAlgo_t>> algorithms_;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_LARGE_MATMUL_H_
