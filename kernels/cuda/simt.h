// The thin layer in which the CUDA kernels are written: indices, views, shared memory, barriers,
// shuffles, tensor-core products and asynchronous copies.
//
// nvcc maps it to CUDA (simt_cuda.h, where a view is a bare pointer). With TESSERA_SIMT_SIMULATED a
// plain C++ compiler maps it to an executor on the CPU (kernels/simulated/simt_simulated.h), which
// checks what the GPU does not: bounds of every view, alignment, shared memory read before it was
// written, races, barriers and shuffles that not all threads reach.
//
// Rules for a kernel: blocks are one-dimensional, their threads a multiple of 32. Every collective
// (SyncThreads, SyncWarp, Shuffle*, Mma*, LoadMatrix*) is reached by all threads of the block or the
// warp; a thread leaves before the others only where no collective follows. Threads exchange shared
// memory through SyncThreads, or within one warp through SyncWarp: a shuffle orders no memory.
//
//   TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(256, 4)
//   void ScaleKernel(View<const float> x, float by, int64_t count, View<float> out) {
//     const int64_t i = int64_t{BlockX()} * 256 + ThreadIndex();
//     if (i < count) out.Set(i, x.Get(i) * by);
//   }
//   return Launch("Scale", ScaleKernel, {.x = blocks, .threads = 256}, stream,
//                 TESSERA_VIEW(x, count), by, count, TESSERA_VIEW(out, count));
//
// What both sides provide, besides the macros TESSERA_GLOBAL, TESSERA_DEVICE (functions kernels
// call), TESSERA_LAUNCH_BOUNDS(threads, blocks per multiprocessor), TESSERA_UNROLL:
//
//   TESSERA_VIEW(pointer, extent)   a View<T> of global memory, named after the expression
//   TESSERA_SHARED(T, name, count)  Shared<T> name: static shared memory of the block
//   DynamicShared<T>(offset, count) Shared<T>: `count` elements at byte `offset` of the launch's
//                                   dynamic shared memory
//   view.Get(i) / Set(i, value)     one element
//   view.GetBits<W>(i) / SetBits(i, bits)   W 32-bit words beginning at element i, aligned to 4W
//   view.GetStreamed<W>(i)          as GetBits, of what is read once: does not stay in the L1 cache
//   ThreadIndex() Lane() WarpIndex() BlockX() BlockY() BlockZ() GridX()
//   SyncThreads() SyncWarp()
//   ShuffleXor(value, lane_mask) Shuffle(value, lane)    float, int32_t, uint32_t, double, int64_t
//   Mma16816(float c[4], const uint32_t a[4], b0, b1)    c += a · b: bf16 (16,16) · (16,8), float32
//   LoadMatrixTransposed(shared, i, uint32_t out[4])     ldmatrix.x4.trans of bf16: lane l names by
//                                   i row l%8 (8 elements, 16 bytes aligned) of matrix l/8
//   CpAsync16(shared, i, view, j, valid)   16 bytes, or zeros where not valid; then
//   CpAsyncCommit() CpAsyncWait<N>()       all but the last N groups have arrived for this thread
//   AtomicAdd(shared, i, value)     the value before; of Shared<int32_t>
//   LeadingOnes(uint64_t)
//   Exp2 Exp Rsqrt                  fast float32; LogDouble ExpDouble
//   MulRn FmaRn                     rounded as written: never contracted, so bits can be relied on
//   RoundToBf16x2(low, high) Bf16Low Bf16High FloatToBf16 Bf16ToFloat SubBf16x2 HalfBitsToFloat
//   And0Or(x, mask, bits)           (x & mask) | bits in one instruction
#ifndef TESSERA_KERNELS_CUDA_SIMT_H_
#define TESSERA_KERNELS_CUDA_SIMT_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/ops.h"

namespace tessera::kernels::cuda {

template <int kWords>
struct alignas(4 * kWords) Bits {
  uint32_t word[kWords];
};

// The shape of a launch. threads: a multiple of 32, at most 1024.
struct LaunchShape {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
  int threads = 32;
  int64_t shared_bytes = 0;  // dynamic
};

}  // namespace tessera::kernels::cuda

#ifdef TESSERA_SIMT_SIMULATED
#include "simt_simulated.h"
#else
#include "kernels/cuda/simt_cuda.h"
#endif

namespace tessera::kernels::cuda {

TESSERA_DEVICE float WarpSum(float value) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += ShuffleXor(value, mask);
  return value;
}

TESSERA_DEVICE float WarpMax(float value) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    const float other = ShuffleXor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over the block's kThreads threads, in an order fixed by kThreads, in all of them.
// `partial`: kThreads / 32 floats of shared memory of which nothing else is in use.
template <int kThreads>
TESSERA_DEVICE float BlockSum(float value, Shared<float> partial) {
  value = WarpSum(value);
  SyncThreads();
  if (Lane() == 0) partial.Set(WarpIndex(), value);
  SyncThreads();
  float sum = 0;
  TESSERA_UNROLL
  for (int w = 0; w < kThreads / 32; ++w) sum += partial.Get(w);
  return sum;
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_SIMT_H_
