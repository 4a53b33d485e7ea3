// A vector of floats of the instruction set this file is compiled for, in the set's namespace.
//
//   kLanes                        floats in a Vec; a power of two, at most 16
//   Zero() Set(v)                 all lanes
//   Load(p) Store(p, v)           any alignment
//   LoadPartial(p, c)             the first c < kLanes lanes, zeros behind; reads nothing behind
//   StorePartial(p, v, c)
//   MulAdd(a, b, c)               a * b + c: fused on avx2 and avx512, rounded twice on scalar
//   Add Sub Mul Div Max           Max(a, b) gives b where either is not a number
//   Round(v) PowerOfTwo(v)        nearest integer; 2^v for whole v in [-126, 127]
//   ReduceSum(v) ReduceMax(v)     of all lanes, by the tree below
//   LanesBelow(a, b)              bit l: a[l] < b[l], false where either is not a number
//   StoreWhole(p, v)              whole numbers as int32
//   ReduceEach(v, op)             lane i: all lanes of v[i], of kLanes vectors, by op(Vec, Vec) in
//                                 any order
//   AddToDoubles(v, p)            onto kLanes doubles, aligned to 64 bytes
//   LoadHalf(p) LoadBFloat16(p)   kLanes 16-bit floats
//   LoadBFloat16Pairs(p, &a, &b)  kLanes pairs of bfloat16: the first of each, and the second
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

// e^x to about 1e-7 relative for x in [-87, 88], clamped beyond; not-a-number stays. The same
// result in every lane. Range reduction and polynomial after Cephes' expf.
TESSERA_INLINE Vec Exp(Vec x) {
  x = Max(Set(-87.0f), x);
  x = Sub(Zero(), Max(Set(-88.0f), Sub(Zero(), x)));
  const Vec n = Round(Mul(x, Set(1.44269504f)));
  Vec r = MulAdd(n, Set(-0.693359375f), x);
  r = MulAdd(n, Set(2.12194440e-4f), r);
  Vec p = Set(1.9875691500e-4f);
  p = MulAdd(p, r, Set(1.3981999507e-3f));
  p = MulAdd(p, r, Set(8.3334519073e-3f));
  p = MulAdd(p, r, Set(4.1665795894e-2f));
  p = MulAdd(p, r, Set(1.6666665459e-1f));
  p = MulAdd(p, r, Set(5.0000001201e-1f));
  p = Add(MulAdd(p, Mul(r, r), r), Set(1.0f));
  return Mul(p, PowerOfTwo(n));
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_SIMD_H_
