#include "benchmarks/gpu/card_limits.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/large_matmul.h"

namespace tessera::gpu_bench {
namespace {

using kernels::cuda::CudaErrors;
using kernels::cuda::DeviceMemory;

constexpr int kRuns = 10;

// The best of some runs of `work`, in seconds.
template <typename Work>
double BestSeconds(CudaErrors& errors, cudaStream_t stream, const Work& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  double best = 1e30;
  if (!errors.Check("time", "cudaEventCreate", cudaEventCreate(&begin)) ||
      !errors.Check("time", "cudaEventCreate", cudaEventCreate(&end))) {
    return best;
  }
  for (int run = 0; run < kRuns && errors.ok(); ++run) {
    errors.Check("time", "cudaEventRecord", cudaEventRecord(begin, stream));
    work();
    errors.Check("time", "cudaEventRecord", cudaEventRecord(end, stream));
    errors.Check("time", "cudaEventSynchronize", cudaEventSynchronize(end));
    float milliseconds = 0;
    errors.Check("time", "cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, begin, end));
    if (run > 1) best = std::min(best, milliseconds / 1e3);
  }
  errors.Check("time", "cudaEventDestroy", cudaEventDestroy(begin));
  errors.Check("time", "cudaEventDestroy", cudaEventDestroy(end));
  return best;
}

}  // namespace

absl::StatusOr<CardLimits> MeasureCard(int gpu) {
  constexpr char kOperation[] = "measure";
  constexpr size_t kBytes = size_t{1} << 30;
  constexpr int64_t kSide = 8192;
  CudaErrors errors("card");
  CardLimits limits;
  cudaStream_t stream = nullptr;
  DeviceMemory from, to;
  kernels::cuda::PinnedMemory host;
  if (!errors.Check(kOperation, "cudaSetDevice", cudaSetDevice(gpu)) ||
      !errors.Check(kOperation, "cudaStreamCreateWithFlags",
                    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) ||
      !from.Reserve(errors, kOperation, kBytes) || !to.Reserve(errors, kOperation, kBytes) ||
      !host.Reserve(errors, kOperation, kBytes / 4)) {
    return errors.first();
  }
  limits.copy_bytes_per_second = 2.0 * kBytes / BestSeconds(errors, stream, [&] {
    errors.Check(kOperation, "cudaMemcpyAsync",
                 cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream));
  });
  limits.upload_bytes_per_second = kBytes / 4.0 / BestSeconds(errors, stream, [&] {
    errors.Check(kOperation, "cudaMemcpyAsync",
                 cudaMemcpyAsync(to.data(), host.data(), kBytes / 4, cudaMemcpyHostToDevice, stream));
  });
  kernels::cuda::LargeMatMul large(errors, stream);
  const kernels::cuda::MatMulProduct product{
      {from.data(), kernels::DType::kBF16, kSide, kSide}, nullptr, to.as<kernels::cuda::BFloat16>()};
  const auto* x =
      reinterpret_cast<const kernels::cuda::BFloat16*>(from.data() + 2 * kSide * kSide);
  errors.Check(kOperation, "cudaMemsetAsync", cudaMemsetAsync(from.data(), 0x3c, kBytes, stream));
  limits.matrix_flops = 2.0 * kSide * kSide * kSide / BestSeconds(errors, stream, [&] {
    large.Multiply(product, x, kSide);
  });
  errors.Check(kOperation, "cudaStreamSynchronize", cudaStreamSynchronize(stream));
  if (!errors.ok()) return errors.first();
  return limits;
}

}  // namespace tessera::gpu_bench
