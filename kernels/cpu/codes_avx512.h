// codes.h with AVX-512, and with its dot product of bytes (VNNI) where the set has it.
#ifndef TESSERA_KERNELS_CPU_CODES_AVX512_H_
#define TESSERA_KERNELS_CPU_CODES_AVX512_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

using Codes = __m512i;
using Ints = __m512i;

TESSERA_INLINE Codes LoadCodes(const uint8_t* p) { return _mm512_loadu_si512(p); }

template <bool kHigh>
TESSERA_INLINE Codes Nibbles(Codes c) {
  return _mm512_and_si512(kHigh ? _mm512_srli_epi16(c, 4) : c, _mm512_set1_epi8(15));
}

template <int kShift, int kMask>
TESSERA_INLINE Codes WithBits(Codes n, Codes c) {
  const __m512i moved = kShift >= 0 ? _mm512_slli_epi16(c, kShift >= 0 ? kShift : 0)
                                    : _mm512_srli_epi16(c, kShift >= 0 ? 0 : -kShift);
  constexpr int kOrAnd = 0xf8;  // a | (b & c)
  return _mm512_ternarylogic_epi32(n, moved, _mm512_set1_epi8(kMask), kOrAnd);
}

TESSERA_INLINE __m512i BroadcastQuad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

#if defined(TESSERA_SIMD_VNNI)

TESSERA_INLINE Codes PrepareBytes(Codes c) { return c; }

template <int kQuads, int kBits>
TESSERA_INLINE Ints DotQuads(const Codes* codes, const int8_t* x, const int32_t* start) {
  // Two chains: one would keep its successors waiting for longer than the machine looks ahead.
  Ints sums[2] = {start ? _mm512_set1_epi32(*start) : _mm512_setzero_si512(),
                  _mm512_setzero_si512()};
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q) {
    sums[q % 2] = _mm512_dpbusd_epi32(sums[q % 2], codes[q], BroadcastQuad(x + 4 * q));
  }
  return _mm512_add_epi32(sums[0], sums[1]);
}

#else

// Signed: an unsigned byte times a signed one, twice, is more than 16 bits hold.
TESSERA_INLINE Codes PrepareBytes(Codes c) {
  return _mm512_xor_si512(c, _mm512_set1_epi8(static_cast<char>(0x80)));
}

template <int kQuads, int kBits>
TESSERA_INLINE Ints DotQuads(const Codes* codes, const int8_t* x, const int32_t* start) {
  // |x| <= 127, so a pair of products is at most 2 * 127 * (2^kBits - 1): how many stay in 16 bits.
  constexpr int kRun = kBits == 4 ? 8 : kBits == 5 ? 4 : kBits == 6 ? 2 : 1;
  const __m512i ones = _mm512_set1_epi16(1);
  Ints sum = kBits < 8 && start ? _mm512_set1_epi32(*start) : _mm512_setzero_si512();
  for (int q = 0; q < kQuads; q += kRun) {
    __m512i pairs = _mm512_setzero_si512();
    for (int k = 0; k < kRun && q + k < kQuads; ++k) {
      const __m512i input = BroadcastQuad(x + 4 * (q + k));
      __m512i products;
      if constexpr (kBits == 8) {
        const __m512i turned =
            _mm512_mask_sub_epi8(input, _mm512_movepi8_mask(codes[q + k]), _mm512_setzero_si512(), input);
        products = _mm512_maddubs_epi16(_mm512_abs_epi8(codes[q + k]), turned);
      } else {
        products = _mm512_maddubs_epi16(codes[q + k], input);
      }
      pairs = k == 0 ? products : _mm512_add_epi16(pairs, products);
    }
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, ones));
  }
  return sum;
}

#endif

TESSERA_INLINE Vec ToFloats(Ints a) { return _mm512_cvtepi32_ps(a); }

TESSERA_INLINE Vec LoadBytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
TESSERA_INLINE Vec LoadSignedBytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

TESSERA_INLINE void StoreInt8(int8_t* p, Vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_CODES_AVX512_H_
