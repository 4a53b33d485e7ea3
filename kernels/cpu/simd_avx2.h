// simd.h with eight floats: AVX2, FMA and F16C.
#ifndef TESSERA_KERNELS_CPU_SIMD_AVX2_H_
#define TESSERA_KERNELS_CPU_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kLanes = 8;
using Vec = __m256;

TESSERA_INLINE Vec Zero() { return _mm256_setzero_ps(); }
TESSERA_INLINE Vec Set(float v) { return _mm256_set1_ps(v); }
TESSERA_INLINE Vec Load(const float* p) { return _mm256_loadu_ps(p); }
TESSERA_INLINE void Store(float* p, Vec v) { _mm256_storeu_ps(p, v); }

TESSERA_INLINE __m256i FirstLanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TESSERA_INLINE Vec LoadPartial(const float* p, int count) {
  return _mm256_maskload_ps(p, FirstLanes(count));
}
TESSERA_INLINE void StorePartial(float* p, Vec v, int count) {
  _mm256_maskstore_ps(p, FirstLanes(count), v);
}

TESSERA_INLINE Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
TESSERA_INLINE Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
TESSERA_INLINE Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
TESSERA_INLINE Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
TESSERA_INLINE Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
TESSERA_INLINE Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
TESSERA_INLINE Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }

TESSERA_INLINE Vec Round(Vec v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TESSERA_INLINE Vec TimesPowerOfTwo(Vec a, Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return Mul(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

TESSERA_INLINE float ReduceSum(Vec v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
TESSERA_INLINE float ReduceMax(Vec v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

TESSERA_INLINE uint32_t LanesBelow(Vec a, Vec b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}
TESSERA_INLINE void StoreWhole(int32_t* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvtps_epi32(v));
}

template <typename Op>
TESSERA_INLINE Vec ReduceEach(const Vec* v, const Op& op) {
  Vec pairs[4], quads[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[i] = op(_mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                  _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256d a = _mm256_castps_pd(pairs[2 * i]), b = _mm256_castps_pd(pairs[2 * i + 1]);
    quads[i] = op(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                  _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
  }
  return op(_mm256_permute2f128_ps(quads[0], quads[1], 0x20),
            _mm256_permute2f128_ps(quads[0], quads[1], 0x31));
}

TESSERA_INLINE void AddToDoubles(Vec v, double* p) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
  _mm256_store_pd(p, _mm256_add_pd(_mm256_load_pd(p), low));
  _mm256_store_pd(p + 4, _mm256_add_pd(_mm256_load_pd(p + 4), high));
}

TESSERA_INLINE Vec LoadHalf(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
TESSERA_INLINE Vec LoadBFloat16(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
TESSERA_INLINE void LoadBFloat16Pairs(const uint8_t* p, Vec* first, Vec* second) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  *first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  *second = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_SIMD_AVX2_H_
