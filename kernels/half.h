// 16-bit floating types to float32 and bfloat16 back, bit for bit as the hardware converts them, on
// any machine. NaNs keep their payload and become quiet. No table, no state.
//
//   float d = HalfToFloat(0x3c00);  // 1.0f
#ifndef TESSERA_KERNELS_HALF_H_
#define TESSERA_KERNELS_HALF_H_

#include <cstdint>

namespace tessera::kernels {

// static: this header is compiled for several instruction sets, and their copies must not merge.
static inline float FloatFromBits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa ? 0x400000u : 0u;
    return FloatFromBits(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  return FloatFromBits(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline float BFloat16ToFloat(uint16_t bfloat) {
  return FloatFromBits(static_cast<uint32_t>(bfloat) << 16);
}

// Rounded to nearest, ties to even.
static inline uint16_t FloatToBFloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_HALF_H_
