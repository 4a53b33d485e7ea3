// 8-bit floats of 4 exponent and 3 mantissa bits (OCP's E4M3: bias 7, no infinity, largest 448) to
// float32 and back. No table, no state.
//
//   float d = E4M3ToFloat(0x38);  // 1.0f
#ifndef TESSERA_KERNELS_E4M3_H_
#define TESSERA_KERNELS_E4M3_H_

#include <cstdint>

#include "kernels/half.h"

namespace tessera::kernels {

inline constexpr float kE4M3Max = 448;

// 0x7f and 0xff, which are no numbers.
static inline bool IsE4M3Nan(uint8_t bits) { return (bits & 0x7fu) == 0x7fu; }

// Exact. NaN for those two.
static inline float E4M3ToFloat(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7f) return FloatFromBits(sign | 0x7fc00000u);
  if (magnitude < 8) {  // zero or subnormal: mantissa * 2^-9
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return sign ? -value : value;
  }
  return FloatFromBits(sign | ((magnitude << 20) + (120u << 23)));
}

// Rounded to nearest, ties to even; what is beyond the largest becomes the largest, NaN stays NaN.
static inline uint8_t FloatToE4M3(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits >> 24 & 0x80u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  const float magnitude = FloatFromBits(bits);
  if (magnitude >= kE4M3Max) return static_cast<uint8_t>(sign | 0x7eu);
  if (magnitude < 0x1p-6f) {  // to multiples of 2^-9, by an addition whose last bit that is
    const float shifted = magnitude + 0x1p14f;
    __builtin_memcpy(&bits, &shifted, sizeof(bits));
    return static_cast<uint8_t>(sign | (bits & 0xfu));
  }
  bits += 0x7ffffu + (bits >> 20 & 1u);
  return static_cast<uint8_t>(sign | ((bits >> 20) - (120u << 3)));
}

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_E4M3_H_
