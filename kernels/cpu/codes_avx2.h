// codes.h with AVX2: pairs of products are added in 16 bits as often as the codes' bits allow.
#ifndef TESSERA_KERNELS_CPU_CODES_AVX2_H_
#define TESSERA_KERNELS_CPU_CODES_AVX2_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

using Codes = __m256i;
using Ints = __m256i;

TESSERA_INLINE Codes LoadCodes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

template <bool kHigh>
TESSERA_INLINE Codes Nibbles(Codes c) {
  return _mm256_and_si256(kHigh ? _mm256_srli_epi16(c, 4) : c, _mm256_set1_epi8(15));
}

template <int kShift, int kMask>
TESSERA_INLINE Codes WithBits(Codes n, Codes c) {
  const __m256i moved =
      kShift >= 0 ? _mm256_slli_epi16(c, kShift >= 0 ? kShift : 0)
                  : _mm256_srli_epi16(c, kShift >= 0 ? 0 : -kShift);
  return _mm256_or_si256(n, _mm256_and_si256(moved, _mm256_set1_epi8(kMask)));
}

// Signed: an unsigned byte times a signed one, twice, is more than 16 bits hold.
TESSERA_INLINE Codes PrepareBytes(Codes c) {
  return _mm256_xor_si256(c, _mm256_set1_epi8(static_cast<char>(0x80)));
}

TESSERA_INLINE __m256i BroadcastQuad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

template <int kQuads, int kBits>
TESSERA_INLINE Ints DotQuads(const Codes* codes, const int8_t* x, const int32_t* start) {
  // |x| <= 127, so a pair of products is at most 2 * 127 * (2^kBits - 1): how many stay in 16 bits.
  constexpr int kRun = kBits == 4 ? 8 : kBits == 5 ? 4 : kBits == 6 ? 2 : 1;
  const __m256i ones = _mm256_set1_epi16(1);
  Ints sum = kBits < 8 && start ? _mm256_set1_epi32(*start) : _mm256_setzero_si256();
  for (int q = 0; q < kQuads; q += kRun) {
    __m256i pairs = _mm256_setzero_si256();
    for (int k = 0; k < kRun && q + k < kQuads; ++k) {
      const __m256i input = BroadcastQuad(x + 4 * (q + k));
      __m256i products;
      if constexpr (kBits == 8) {
        products =
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes[q + k]), _mm256_sign_epi8(input, codes[q + k]));
      } else {
        products = _mm256_maddubs_epi16(codes[q + k], input);
      }
      pairs = k == 0 ? products : _mm256_add_epi16(pairs, products);
    }
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
  }
  return sum;
}

TESSERA_INLINE Vec ToFloats(Ints a) { return _mm256_cvtepi32_ps(a); }

TESSERA_INLINE Vec LoadBytes(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
TESSERA_INLINE Vec LoadSignedBytes(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

TESSERA_INLINE void StoreInt8(int8_t* p, Vec v) {
  const __m256i ints = _mm256_cvtps_epi32(v);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_CODES_AVX2_H_
