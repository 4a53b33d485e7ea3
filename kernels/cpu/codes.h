// Weight codes and their integer products with quantized inputs, kLanes rows at a time, over simd.h's
// vectors. Where the same operations are spelled per instruction set:
//
//   Codes                         kLanes rows × the 4 columns of a quad, bytes
//   LoadCodes(p)                  that many bytes of a plane of packed_weights.h
//   Nibbles<kHigh>(c)             the low or high halves of the bytes
//   WithBits<kShift, kMask>(n, c) n | (c << kShift & kMask); kShift < 0 shifts right
//   PrepareBytes(c)               codes of 8 bits as DotQuads takes them
//   Ints                          kLanes int32
//   DotQuads<kQuads, kBits>(codes, x, start)
//       sum over kQuads quads of code * x, and *start, which corrects unsigned codes of symmetric
//       types (matmul_input.h), for each row. Null: nothing to add. x: kQuads * 4 int8.
//       kBits: what the codes have at most. The result is exact.
//   LoadNibbles(p, codes)         4 planes of nibbles to 8 codes as DotNibbles takes them
//   DotNibbles(codes, x, start, start_16)
//       sum over 8 quads of code * q, and *start; *start_16 is 16 times that. Null: nothing to add.
//       q = 16 * x[j] + x[32 + j], |x[32 + j]| <= 8. The result is exact.
//   ShiftedPlus<kShift>(a, b)     (a << kShift) + b
//   ToFloats(a)
//   LoadBytes(p) LoadSignedBytes(p)  kLanes bytes as floats
//   StoreInt8(p, v)                  whole numbers in [-128, 127]
#ifndef TESSERA_KERNELS_CPU_CODES_H_
#define TESSERA_KERNELS_CPU_CODES_H_

#include "kernels/cpu/simd.h"

#if defined(TESSERA_SIMD_AVX512)
#include "kernels/cpu/codes_avx512.h"
#elif defined(TESSERA_SIMD_AVX2)
#include "kernels/cpu/codes_avx2.h"
#else
#include "kernels/cpu/codes_scalar.h"
#endif

#if !defined(TESSERA_SIMD_VNNI)
namespace tessera::kernels::cpu::TESSERA_ISA {

TESSERA_INLINE void LoadNibbles(const uint8_t* p, Codes* codes) {
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const Codes bytes = LoadCodes(p + 64 * k);
    codes[k] = Nibbles<false>(bytes);
    codes[k + 4] = Nibbles<true>(bytes);
  }
}

TESSERA_INLINE Ints DotNibbles(const Codes* codes, const int8_t* x, const int32_t* start,
                               const int32_t* /*start_16*/) {
  const Ints high = DotQuads<8, 4>(codes, x, nullptr);
  return ShiftedPlus<4>(high, DotQuads<8, 4>(codes, x + 32, start));
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
#endif

#endif  // TESSERA_KERNELS_CPU_CODES_H_
