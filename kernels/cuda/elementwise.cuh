// out[i] = f(a[i], b[i]) in float32 over bfloat16 arrays: 8 elements, 16 bytes, per thread and
// array. Arrays that do not start at 16 bytes, and the last elements, go one by one.
#ifndef TESSERA_KERNELS_CUDA_ELEMENTWISE_CUH_
#define TESSERA_KERNELS_CUDA_ELEMENTWISE_CUH_

#include "kernels/cuda/simt.h"
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kElementwiseThreads = 256;

// a or b may be out.
template <typename F>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kElementwiseThreads, 4) void PairwiseKernel(
    F f, View<const BFloat16> a, View<const BFloat16> b, int64_t count, bool aligned,
    View<BFloat16> out) {
  const int64_t begin = 8 * (int64_t{BlockX()} * kElementwiseThreads + ThreadIndex());
  if (aligned && begin + 8 <= count) {
    const Floats8 x = UnpackBf16(a.GetBits<4>(begin));
    const Floats8 y = UnpackBf16(b.GetBits<4>(begin));
    Floats8 result;
    TESSERA_UNROLL
    for (int i = 0; i < 8; ++i) result.v[i] = f(x.v[i], y.v[i]);
    out.SetBits(begin, PackBf16(result));
    return;
  }
  for (int64_t i = begin; i < count && i < begin + 8; ++i) {
    out.Set(i, FloatToBf16(f(ToFloat(a.Get(i)), ToFloat(b.Get(i)))));
  }
}

template <typename F>
int LaunchPairwise(const char* name, F f, const BFloat16* a, const BFloat16* b, int64_t count,
                   BFloat16* out, Stream stream) {
  if (count == 0) return kLaunched;
  const bool aligned = IsAligned16(a) && IsAligned16(b) && IsAligned16(out);
  return Launch(name, PairwiseKernel<F>,
                {.x = CeilDiv(count, 8 * kElementwiseThreads), .threads = kElementwiseThreads},
                stream, f, TESSERA_VIEW(a, count), TESSERA_VIEW(b, count), count, aligned,
                TESSERA_VIEW(out, count));
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_ELEMENTWISE_CUH_
