// Activations from and to float32, for the host. 6 bytes of traffic per element.
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void ToFloatKernel(View<const BFloat16> from,
                                                                     int64_t count,
                                                                     View<float> to) {
  const int64_t i = int64_t{BlockX()} * kThreads + ThreadIndex();
  if (i < count) to.Set(i, ToFloat(from.Get(i)));
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void FromFloatKernel(View<const float> from,
                                                                       int64_t count,
                                                                       View<BFloat16> to) {
  const int64_t i = int64_t{BlockX()} * kThreads + ThreadIndex();
  if (i < count) to.Set(i, FloatToBf16(from.Get(i)));
}

}  // namespace

int LaunchToFloat(const BFloat16* from, int64_t count, float* to, Stream stream) {
  if (count == 0) return kLaunched;
  return Launch("ToFloat", ToFloatKernel, {.x = CeilDiv(count, kThreads), .threads = kThreads},
                stream, TESSERA_VIEW(from, count), count, TESSERA_VIEW(to, count));
}

int LaunchFromFloat(const float* from, int64_t count, BFloat16* to, Stream stream) {
  if (count == 0) return kLaunched;
  return Launch("FromFloat", FromFloatKernel, {.x = CeilDiv(count, kThreads), .threads = kThreads},
                stream, TESSERA_VIEW(from, count), count, TESSERA_VIEW(to, count));
}

}  // namespace tessera::kernels::cuda
