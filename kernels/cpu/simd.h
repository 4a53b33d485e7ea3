// A vector of floats of the instruction set this file is compiled for, in the set's namespace.
//
//   kLanes                        floats in a Vec; a power of two, at most 16
//   Zero() Set(v)                 all lanes
//   Load(p) Store(p, v)           any alignment
//   LoadPartial(p, c)             the first c < kLanes lanes, zeros behind; reads nothing behind
//   StorePartial(p, v, c)
//   MulAdd(a, b, c)               a * b + c: fused on avx2 and avx512, rounded twice on scalar
//   Add Sub Mul Div Max Min       Max(a, b), Min(a, b) give b where either is not a number
//   Round(v)                      nearest integer
//   TimesPowerOfTwo(a, n)         a * 2^n, for whole n in [-126, 127]
//   ReduceSum(v) ReduceMax(v)     of all lanes, by the tree below
//   LanesBelow(a, b)              bit l: a[l] < b[l], false where either is not a number
//   StoreWhole(p, v)              whole numbers as int32
//   ReduceEach(v, op)             lane i: all lanes of v[i], of kLanes vectors, by op(Vec, Vec) in
//                                 any order
//   AddToDoubles(v, p)            onto kLanes doubles, aligned to 64 bytes
//   LoadHalf(p) LoadBFloat16(p)   kLanes 16-bit floats
//   LoadBFloat16Pairs(p, &a, &b)  kLanes pairs of bfloat16: the first of each, and the second
//
// With TESSERA_SIMD_BF16, as they are multiplied:
//
//   LoadPairs(p) SetPair(p)       kLanes pairs of bfloat16; one pair in all lanes
//   LoadFirsts(p)                 kLanes pairs of a bfloat16 and zero
//   KeepFirsts(a) KeepSeconds(a)  zero bits in place of the other
//   AddDots(sum, a, b)            sum + both products of each pair
//   AddBFloat16Dots(sum, p, q)    the same of LoadPairs(p) and SetPair(q)
//   StoreBFloat16(p, v)           kLanes bfloat16, rounded to nearest, subnormals to zero; gives
//                                 what it stored
//
// The summing tree is the heart of determinism: lane l meets l + kLanes/2, then l + kLanes/4, and
// so on.
#ifndef TESSERA_KERNELS_CPU_SIMD_H_
#define TESSERA_KERNELS_CPU_SIMD_H_

#include <cstdint>

#define TESSERA_INLINE inline __attribute__((always_inline))

#if defined(TESSERA_SIMD_AVX512)
#include "kernels/cpu/simd_avx512.h"
#elif defined(TESSERA_SIMD_AVX2)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_scalar.h"
#endif

namespace tessera::kernels::cpu::TESSERA_ISA {

// x[v] = e^x[v] to about 1e-7 relative for x in [-87, 88], clamped beyond; not-a-number stays. The
// same result in every lane and vector: they go side by side, because each waits for itself.
// Range reduction and polynomial after Cephes' expf.
template <int kVecs>
TESSERA_INLINE void ExpEach(Vec* x) {
  constexpr float kPolynomial[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                                   1.6666665459e-1f, 5.0000001201e-1f};
  Vec n[kVecs], r[kVecs], p[kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    x[v] = Min(Set(88.0f), Max(Set(-87.0f), x[v]));
    n[v] = Round(Mul(x[v], Set(1.44269504f)));
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) r[v] = MulAdd(n[v], Set(-0.693359375f), x[v]);
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    r[v] = MulAdd(n[v], Set(2.12194440e-4f), r[v]);
    p[v] = Set(1.9875691500e-4f);
  }
#pragma GCC unroll 5
  for (const float coefficient : kPolynomial) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) p[v] = MulAdd(p[v], r[v], Set(coefficient));
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) p[v] = Add(MulAdd(p[v], Mul(r[v], r[v]), r[v]), Set(1.0f));
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) x[v] = TimesPowerOfTwo(p[v], n[v]);
}

TESSERA_INLINE Vec Exp(Vec x) {
  ExpEach<1>(&x);
  return x;
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_SIMD_H_
