// Eight bfloat16 elements as floats and back, and small arithmetic that kernels and launchers share.
#ifndef TESSERA_KERNELS_CUDA_VECTORS_CUH_
#define TESSERA_KERNELS_CUDA_VECTORS_CUH_

#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline bool IsAligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

TESSERA_DEVICE float ToFloat(BFloat16 value) {
  return FloatOfBits(static_cast<uint32_t>(value.bits) << 16);
}
TESSERA_DEVICE float LowFloat(uint32_t pair) { return FloatOfBits(pair << 16); }
TESSERA_DEVICE float HighFloat(uint32_t pair) { return FloatOfBits(pair & 0xffff0000u); }

// The two low bytes of `pair` as E4M3 numbers, exactly: moved to bfloat16's places they are 2^-120
// of what they mean.
TESSERA_DEVICE uint32_t E4M3ToBf16x2(uint32_t pair) {
  const uint32_t apart = (pair & 0xffu) << 8 | (pair & 0xff00u) << 16;
  return MulBf16x2(And0Or(apart, 0x80008000u, apart >> 4 & 0x07f007f0u), 0x7b807b80u);
}

struct Floats8 {
  float v[8];
};

TESSERA_DEVICE Floats8 UnpackBf16(const Bits<4>& bits) {
  Floats8 floats;
  TESSERA_UNROLL
  for (int i = 0; i < 4; ++i) {
    floats.v[2 * i] = LowFloat(bits.word[i]);
    floats.v[2 * i + 1] = HighFloat(bits.word[i]);
  }
  return floats;
}

TESSERA_DEVICE Bits<4> PackBf16(const Floats8& floats) {
  Bits<4> bits;
  TESSERA_UNROLL
  for (int i = 0; i < 4; ++i) bits.word[i] = RoundToBf16x2(floats.v[2 * i], floats.v[2 * i + 1]);
  return bits;
}

// 8 elements from element `begin` of `view`, of which those from `valid` on are zeros and not read.
// aligned: the address of element `begin` is a multiple of 16 bytes whenever valid >= 8.
TESSERA_DEVICE Bits<4> LoadEight(const View<const BFloat16>& view, int64_t begin, int64_t valid,
                                 bool aligned) {
  if (aligned && valid >= 8) return view.GetBits<4>(begin);
  Bits<4> bits;
  TESSERA_UNROLL
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = 2 * i < valid ? view.Get(begin + 2 * i).bits : 0;
    const uint32_t high = 2 * i + 1 < valid ? view.Get(begin + 2 * i + 1).bits : 0;
    bits.word[i] = low | high << 16;
  }
  return bits;
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_VECTORS_CUH_
