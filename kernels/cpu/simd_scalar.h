// simd.h without any instruction set in mind: four floats as the compiler's own vector type, which
// any machine has or can imitate.
#ifndef TESSERA_KERNELS_CPU_SIMD_SCALAR_H_
#define TESSERA_KERNELS_CPU_SIMD_SCALAR_H_

#include <cstdint>

#include "kernels/half.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kLanes = 4;
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t IntVec __attribute__((vector_size(16)));

TESSERA_INLINE Vec Zero() { return Vec{}; }
TESSERA_INLINE Vec Set(float v) { return Vec{v, v, v, v}; }

TESSERA_INLINE Vec Load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
TESSERA_INLINE void Store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof(v)); }

TESSERA_INLINE Vec LoadPartial(const float* p, int count) {
  Vec v = Zero();
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
TESSERA_INLINE void StorePartial(float* p, Vec v, int count) {
  for (int i = 0; i < count; ++i) p[i] = v[i];
}

TESSERA_INLINE Vec MulAdd(Vec a, Vec b, Vec c) { return a * b + c; }
TESSERA_INLINE Vec Add(Vec a, Vec b) { return a + b; }
TESSERA_INLINE Vec Sub(Vec a, Vec b) { return a - b; }
TESSERA_INLINE Vec Mul(Vec a, Vec b) { return a * b; }
TESSERA_INLINE Vec Div(Vec a, Vec b) { return a / b; }
TESSERA_INLINE Vec Max(Vec a, Vec b) { return a > b ? a : b; }
TESSERA_INLINE Vec Min(Vec a, Vec b) { return a < b ? a : b; }

// Adding and taking away 1.5 * 2^23 leaves the nearest integer of any |v| < 2^22.
TESSERA_INLINE Vec Round(Vec v) { return (v + Set(12582912.0f)) - Set(12582912.0f); }
TESSERA_INLINE Vec TimesPowerOfTwo(Vec a, Vec n) {
  // The same addition leaves the integer in the low bits; the rest shifts out.
  IntVec bits = reinterpret_cast<IntVec>(n + Set(12582912.0f));
  bits = (bits << 23) + 0x3f800000;
  return a * reinterpret_cast<Vec>(bits);
}

TESSERA_INLINE float ReduceSum(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
TESSERA_INLINE float ReduceMax(Vec v) {
  float highest = v[0];
  for (int i = 1; i < kLanes; ++i) highest = v[i] > highest ? v[i] : highest;
  return highest;
}

TESSERA_INLINE uint32_t LanesBelow(Vec a, Vec b) {
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(a[i] < b[i]) << i;
  return bits;
}
TESSERA_INLINE void StoreWhole(int32_t* p, Vec v) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int32_t>(v[i]);
}

template <typename Op>
TESSERA_INLINE Vec ReduceEach(const Vec* v, const Op& op) {
  const auto column = [v](int i) { return Vec{v[0][i], v[1][i], v[2][i], v[3][i]}; };
  return op(op(column(0), column(1)), op(column(2), column(3)));
}

TESSERA_INLINE void AddToDoubles(Vec v, double* p) {
  for (int i = 0; i < kLanes; ++i) p[i] += static_cast<double>(v[i]);
}

TESSERA_INLINE Vec LoadHalf(const uint16_t* p) {
  return Vec{HalfToFloat(p[0]), HalfToFloat(p[1]), HalfToFloat(p[2]), HalfToFloat(p[3])};
}
TESSERA_INLINE Vec LoadBFloat16(const uint16_t* p) {
  return Vec{BFloat16ToFloat(p[0]), BFloat16ToFloat(p[1]), BFloat16ToFloat(p[2]),
             BFloat16ToFloat(p[3])};
}
TESSERA_INLINE void LoadBFloat16Pairs(const uint8_t* p, Vec* first, Vec* second) {
  IntVec pairs;
  __builtin_memcpy(&pairs, p, sizeof(pairs));
  *first = reinterpret_cast<Vec>(pairs << 16);
  *second = reinterpret_cast<Vec>(pairs & -65536);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_SIMD_SCALAR_H_
