#include "benchmarks/gpu/card_limits.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <random>

#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/large_matmul.h"

namespace tessera::gpu_bench {
namespace {

using kernels::cuda::CudaErrors;
using kernels::cuda::DeviceBuffer;

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

// bfloat16 of either sign, none above 2, in all of `to`. Of numbers that are all alike a card
// multiplies more in a second: their bits switch less.
void FillWithNumbers(CudaErrors& errors, cudaStream_t stream, kernels::cuda::PinnedMemory& host,
                     DeviceBuffer& to) {
  std::mt19937 random(1);
  auto* const bits = host.as<uint16_t>();
  for (size_t i = 0; i < host.bytes() / sizeof(uint16_t); ++i) {
    const uint32_t drawn = random();
    // Sign, an exponent of -3 .. 0, and the fraction.
    bits[i] = static_cast<uint16_t>((drawn & 0x8000) | (0x3e00 + (drawn & 0x01ff)));
  }
  for (size_t at = 0; at < to.bytes(); at += host.bytes()) {
    errors.Check("fill", "cudaMemcpyAsync",
                 cudaMemcpyAsync(to.data() + at, host.data(), std::min(host.bytes(), to.bytes() - at),
                                 cudaMemcpyHostToDevice, stream));
  }
}

}  // namespace

absl::StatusOr<CardLimits> MeasureCard(int gpu) {
  constexpr char kOperation[] = "measure";
  constexpr size_t kBytes = size_t{1} << 30;
  constexpr int64_t kSide = 8192;
  CudaErrors errors("card");
  CardLimits limits;
  cudaStream_t stream = nullptr;
  DeviceBuffer from, to;
  kernels::cuda::PinnedMemory host;
  if (!errors.Check(kOperation, "cudaSetDevice", cudaSetDevice(gpu)) ||
      !errors.Check(kOperation, "cudaStreamCreateWithFlags",
                    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) ||
      !from.Reserve(errors, kOperation, kBytes) || !to.Reserve(errors, kOperation, kBytes) ||
      !host.Reserve(errors, kOperation, kBytes / 4)) {
    return errors.first();
  }
  FillWithNumbers(errors, stream, host, from);
  limits.copy_bytes_per_second = 2.0 * kBytes / BestSeconds(errors, stream, [&] {
    errors.Check(kOperation, "cudaMemcpyAsync",
                 cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream));
  });
  limits.upload_bytes_per_second = kBytes / 4.0 / BestSeconds(errors, stream, [&] {
    errors.Check(kOperation, "cudaMemcpyAsync",
                 cudaMemcpyAsync(to.data(), host.data(), kBytes / 4, cudaMemcpyHostToDevice, stream));
  });
  kernels::cuda::Outgrown outgrown;
  kernels::cuda::LargeMatMul large(errors, stream, outgrown, {});
  const kernels::cuda::MatMulProduct product{
      {from.data(), kernels::DType::kBF16, kSide, kSide}, nullptr, to.as<kernels::cuda::BFloat16>()};
  const auto* x =
      reinterpret_cast<const kernels::cuda::BFloat16*>(from.data() + 2 * kSide * kSide);
  limits.matrix_flops = 2.0 * kSide * kSide * kSide / BestSeconds(errors, stream, [&] {
                          large.Multiply({&product, 1}, x, kSide);
                        });
  errors.Check(kOperation, "cudaStreamSynchronize", cudaStreamSynchronize(stream));
  if (!errors.ok()) return errors.first();
  return limits;
}

}  // namespace tessera::gpu_bench
