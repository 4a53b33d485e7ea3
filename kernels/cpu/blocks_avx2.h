// blocks.h with AVX2: bytes to 32-bit integers to floats, eight at a time.
#ifndef TESSERA_KERNELS_CPU_BLOCKS_AVX2_H_
#define TESSERA_KERNELS_CPU_BLOCKS_AVX2_H_

#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// The first four 16-bit floats at p, widened. All blocks have 8 bytes to read.
TESSERA_INLINE __m128 LoadScales(const uint8_t* p) {
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
TESSERA_INLINE Vec SpreadFirst(__m128 v) { return _mm256_broadcastss_ps(v); }
TESSERA_INLINE Vec SpreadSecond(__m128 v) { return _mm256_broadcastss_ps(_mm_movehdup_ps(v)); }

// (d * sc, dmin * mn) of a K-quant's sub-block in the first two lanes.
TESSERA_INLINE __m128 LoadScaledPair(const uint8_t* p) {
  const __m128i head = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i factors = _mm_cvtepu8_epi32(_mm_srli_si128(head, 4));
  return _mm_mul_ps(_mm_cvtph_ps(head), _mm_cvtepi32_ps(factors));
}

// 16 bytes of nibbles as 32 integers, in element order.
TESSERA_INLINE void UnpackNibbles(const uint8_t* p, __m256i* q) {
  for (int v = 0; v < 2; ++v) {
    const __m256i bytes =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * v)));
    q[v] = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
    q[v + 2] = _mm256_srli_epi32(bytes, 4);
  }
}

// Sets bit 4 of integer j where bit j of the word at p is set.
TESSERA_INLINE void AddFifthBits(const uint8_t* p, __m256i* q) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof(word));
  for (int v = 0; v < 4; ++v) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i place = _mm256_add_epi32(lanes, _mm256_set1_epi32(8 * v));
    const __m256i bit =
        _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), place), _mm256_set1_epi32(1));
    q[v] = _mm256_or_si256(q[v], _mm256_slli_epi32(bit, 4));
  }
}

TESSERA_INLINE Vec ToFloats(__m256i q, int bias) {
  return _mm256_cvtepi32_ps(bias ? _mm256_sub_epi32(q, _mm256_set1_epi32(bias)) : q);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ8_0>(const uint8_t* p, Vec* w) {
  const Vec scale = SpreadFirst(LoadScales(p));
  for (int v = 0; v < 4; ++v) {
    const auto* bytes = reinterpret_cast<const __m128i*>(p + 2 + 8 * v);
    w[v] = _mm256_mul_ps(scale, ToFloats(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes)), 0));
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_0>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 2, q);
  const Vec scale = SpreadFirst(LoadScales(p));
  for (int v = 0; v < 4; ++v) w[v] = _mm256_mul_ps(scale, ToFloats(q[v], 8));
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_1>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 4, q);
  const __m128 scales = LoadScales(p);
  const Vec scale = SpreadFirst(scales);
  const Vec offset = SpreadSecond(scales);
  for (int v = 0; v < 4; ++v) {
    w[v] = _mm256_add_ps(_mm256_mul_ps(scale, ToFloats(q[v], 0)), offset);
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_0>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 6, q);
  AddFifthBits(p + 2, q);
  const Vec scale = SpreadFirst(LoadScales(p));
  for (int v = 0; v < 4; ++v) w[v] = _mm256_mul_ps(scale, ToFloats(q[v], 16));
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_1>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 8, q);
  AddFifthBits(p + 4, q);
  const __m128 scales = LoadScales(p);
  const Vec scale = SpreadFirst(scales);
  const Vec offset = SpreadSecond(scales);
  for (int v = 0; v < 4; ++v) {
    w[v] = _mm256_add_ps(_mm256_mul_ps(scale, ToFloats(q[v], 0)), offset);
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_K32>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 6, q);
  const __m128 scales = LoadScaledPair(p);
  const Vec scale = SpreadFirst(scales);
  const Vec minimum = SpreadSecond(scales);
  for (int v = 0; v < 4; ++v) {
    w[v] = _mm256_sub_ps(_mm256_mul_ps(scale, ToFloats(q[v], 0)), minimum);
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_K32>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 10, q);
  AddFifthBits(p + 6, q);
  const __m128 scales = LoadScaledPair(p);
  const Vec scale = SpreadFirst(scales);
  const Vec minimum = SpreadSecond(scales);
  for (int v = 0; v < 4; ++v) {
    w[v] = _mm256_sub_ps(_mm256_mul_ps(scale, ToFloats(q[v], 0)), minimum);
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ6_K32>(const uint8_t* p, Vec* w) {
  __m256i q[4];
  UnpackNibbles(p + 4, q);
  const __m128i head = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i factors = _mm_cvtepi8_epi32(_mm_srli_si128(head, 2));
  const __m128 scales =
      _mm_mul_ps(_mm_broadcastss_ps(_mm_cvtph_ps(head)), _mm_cvtepi32_ps(factors));
  const Vec scale[2] = {SpreadFirst(scales), SpreadSecond(scales)};
  for (int v = 0; v < 4; ++v) {
    // Element j's two high bits stand at 2j of a 32-bit word of 16 elements.
    int32_t word;
    __builtin_memcpy(&word, p + 20 + 4 * (v / 2), sizeof(word));
    const __m256i lanes = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i place = _mm256_add_epi32(lanes, _mm256_set1_epi32(16 * (v % 2)));
    const __m256i high =
        _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word), place), _mm256_set1_epi32(3));
    const __m256i six = _mm256_or_si256(q[v], _mm256_slli_epi32(high, 4));
    w[v] = _mm256_mul_ps(scale[v / 2], ToFloats(six, 32));
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_BLOCKS_AVX2_H_
