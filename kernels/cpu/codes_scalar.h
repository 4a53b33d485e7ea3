// codes.h for any machine, in loops.
#ifndef TESSERA_KERNELS_CPU_CODES_SCALAR_H_
#define TESSERA_KERNELS_CPU_CODES_SCALAR_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

typedef uint8_t Codes __attribute__((vector_size(16)));
using Ints = IntVec;

TESSERA_INLINE Codes LoadCodes(const uint8_t* p) {
  Codes c;
  __builtin_memcpy(&c, p, sizeof(c));
  return c;
}

template <bool kHigh>
TESSERA_INLINE Codes Nibbles(Codes c) {
  constexpr uint8_t kLow = 15;
  return kHigh ? c >> 4 : c & kLow;
}

template <int kShift, int kMask>
TESSERA_INLINE Codes WithBits(Codes n, Codes c) {
  constexpr uint8_t kMaskByte = kMask;
  if constexpr (kShift >= 0) return n | ((c << kShift) & kMaskByte);
  return n | ((c >> -kShift) & kMaskByte);
}

TESSERA_INLINE Codes PrepareBytes(Codes c) { return c; }

template <int kQuads, int kBits>
TESSERA_INLINE Ints DotQuads(const Codes* codes, const int8_t* x, const int32_t* start) {
  int32_t sums[kLanes];
  for (int r = 0; r < kLanes; ++r) sums[r] = start ? *start : 0;
  for (int q = 0; q < kQuads; ++q) {
    uint8_t c[16];
    __builtin_memcpy(c, &codes[q], sizeof(c));
    for (int r = 0; r < kLanes; ++r) {
      for (int j = 0; j < 4; ++j) sums[r] += int32_t{c[4 * r + j]} * x[4 * q + j];
    }
  }
  Ints result;
  __builtin_memcpy(&result, sums, sizeof(result));
  return result;
}

TESSERA_INLINE Vec ToFloats(Ints a) { return __builtin_convertvector(a, Vec); }

TESSERA_INLINE Vec LoadBytes(const uint8_t* p) {
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(p[i]);
  return v;
}
TESSERA_INLINE Vec LoadSignedBytes(const uint8_t* p) {
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(static_cast<int8_t>(p[i]));
  return v;
}

TESSERA_INLINE void StoreInt8(int8_t* p, Vec v) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(v[i]);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_CODES_SCALAR_H_
