// blocks.h with AVX-512. A 4-bit block has but 16 values: they are computed once, as a table in one
// register, and looked up with vpermps, which reads only the low four bits of each index. Five bits
// take two registers and vpermi2ps.
#ifndef TESSERA_KERNELS_CPU_BLOCKS_AVX512_H_
#define TESSERA_KERNELS_CPU_BLOCKS_AVX512_H_

#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// A block's scale and offset go through memory: from there, an instruction spreads one over a
// vector for free, while spreading from a register takes the very port that the look-ups need.
struct Scales {
  float values[4];

  TESSERA_INLINE Vec First() const { return _mm512_set1_ps(values[0]); }
  TESSERA_INLINE Vec Second() const { return _mm512_set1_ps(values[1]); }
};
TESSERA_INLINE Scales ThroughMemory(__m128 v) {
  Scales scales;
  _mm_storeu_ps(scales.values, v);
  asm("" : "+m"(scales));  // else the compiler keeps them in the register
  return scales;
}

// The first four 16-bit floats at p, widened. All blocks have 8 bytes to read.
TESSERA_INLINE __m128 WidenHalves(const uint8_t* p) {
  struct __attribute__((packed, may_alias)) EightBytes {
    uint64_t bytes;
  };
  __m128 halves;  // GCC 12 has no way to say that the operand may stay in memory
  asm("vcvtph2ps %1, %0" : "=v"(halves) : "m"(*reinterpret_cast<const EightBytes*>(p)));
  return halves;
}
TESSERA_INLINE Scales LoadScales(const uint8_t* p) { return ThroughMemory(WidenHalves(p)); }

// (d * sc, dmin * mn) of a K-quant's sub-block.
TESSERA_INLINE Scales LoadScaledPair(const uint8_t* p) {
  const __m128i factors = _mm_cvtepu8_epi32(_mm_loadu_si32(p + 4));
  return ThroughMemory(_mm_mul_ps(WidenHalves(p), _mm_cvtepi32_ps(factors)));
}

TESSERA_INLINE Vec Counting(float first) {
  return _mm512_add_ps(_mm512_set1_ps(first),
                       _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

TESSERA_INLINE __m512i LoadBytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// Nibbles through a table of their 16 values.
TESSERA_INLINE void LookUpNibbles(const uint8_t* p, Vec table, Vec* w) {
  const __m512i bytes = LoadBytes(p);
  w[0] = _mm512_permutexvar_ps(bytes, table);
  w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
}

// Nibbles and their fifth bits through a table of 32 values.
TESSERA_INLINE void LookUpFiveBits(const uint8_t* nibbles, const uint8_t* bits, Vec table_low,
                                   Vec table_high, Vec* w) {
  uint32_t high_bits;
  __builtin_memcpy(&high_bits, bits, sizeof(high_bits));
  const __m512i bytes = LoadBytes(nibbles);
  const __m512i low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
  const __m512i high = _mm512_srli_epi32(bytes, 4);
  const __m512i sixteen = _mm512_set1_epi32(16);
  const auto low_mask = static_cast<__mmask16>(high_bits & 0xffff);
  const auto high_mask = static_cast<__mmask16>(high_bits >> 16);
  w[0] = _mm512_permutex2var_ps(table_low, _mm512_mask_or_epi32(low, low_mask, low, sixteen),
                                table_high);
  w[1] = _mm512_permutex2var_ps(table_low, _mm512_mask_or_epi32(high, high_mask, high, sixteen),
                                table_high);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ8_0>(const uint8_t* p, Vec* w) {
  const Vec scale = LoadScales(p).First();
  for (int v = 0; v < 2; ++v) {
    const auto* bytes = reinterpret_cast<const __m128i*>(p + 2 + 16 * v);
    const __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128(bytes));
    w[v] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(q));
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_0>(const uint8_t* p, Vec* w) {
  LookUpNibbles(p + 2, _mm512_mul_ps(LoadScales(p).First(), Counting(-8)), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_1>(const uint8_t* p, Vec* w) {
  const Scales scales = LoadScales(p);
  const Vec products = _mm512_mul_ps(scales.First(), Counting(0));
  LookUpNibbles(p + 4, _mm512_add_ps(products, scales.Second()), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_0>(const uint8_t* p, Vec* w) {
  const Vec scale = LoadScales(p).First();
  LookUpFiveBits(p + 6, p + 2, _mm512_mul_ps(scale, Counting(-16)),
                 _mm512_mul_ps(scale, Counting(0)), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_1>(const uint8_t* p, Vec* w) {
  const Scales scales = LoadScales(p);
  const Vec scale = scales.First();
  const Vec offset = scales.Second();
  LookUpFiveBits(p + 8, p + 4, _mm512_add_ps(_mm512_mul_ps(scale, Counting(0)), offset),
                 _mm512_add_ps(_mm512_mul_ps(scale, Counting(16)), offset), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_K32>(const uint8_t* p, Vec* w) {
  const Scales scales = LoadScaledPair(p);
  const Vec products = _mm512_mul_ps(scales.First(), Counting(0));
  LookUpNibbles(p + 6, _mm512_sub_ps(products, scales.Second()), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_K32>(const uint8_t* p, Vec* w) {
  const Scales scales = LoadScaledPair(p);
  const Vec scale = scales.First();
  const Vec minimum = scales.Second();
  LookUpFiveBits(p + 10, p + 6, _mm512_sub_ps(_mm512_mul_ps(scale, Counting(0)), minimum),
                 _mm512_sub_ps(_mm512_mul_ps(scale, Counting(16)), minimum), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ6_K32>(const uint8_t* p, Vec* w) {
  const __m128i factors = _mm_cvtepi8_epi32(_mm_loadu_si32(p + 2));
  const __m128 scale = _mm_broadcastss_ps(WidenHalves(p));
  const Scales scales = ThroughMemory(_mm_mul_ps(scale, _mm_cvtepi32_ps(factors)));
  const __m512i bytes = LoadBytes(p + 4);
  const __m512i low[2] = {_mm512_and_si512(bytes, _mm512_set1_epi32(15)),
                          _mm512_srli_epi32(bytes, 4)};
  // Element j's two high bits stand at 2j of a 32-bit word of 16 elements; rotate them to 4 and 5.
  const __m512i turn = _mm512_setr_epi32(4, 2, 0, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6);
  for (int v = 0; v < 2; ++v) {
    int32_t word;
    __builtin_memcpy(&word, p + 20 + 4 * v, sizeof(word));
    const __m512i high =
        _mm512_and_si512(_mm512_rolv_epi32(_mm512_set1_epi32(word), turn), _mm512_set1_epi32(48));
    const __m512i q = _mm512_sub_epi32(_mm512_or_si512(low[v], high), _mm512_set1_epi32(32));
    w[v] = _mm512_mul_ps(v == 0 ? scales.First() : scales.Second(), _mm512_cvtepi32_ps(q));
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_BLOCKS_AVX512_H_
