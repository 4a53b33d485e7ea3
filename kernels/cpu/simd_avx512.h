// simd.h with sixteen floats: AVX-512 F, BW, VL and DQ.
#ifndef TESSERA_KERNELS_CPU_SIMD_AVX512_H_
#define TESSERA_KERNELS_CPU_SIMD_AVX512_H_

#include <immintrin.h>

#include <cstdint>

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kLanes = 16;
using Vec = __m512;

TESSERA_INLINE Vec Zero() { return _mm512_setzero_ps(); }
TESSERA_INLINE Vec Set(float v) { return _mm512_set1_ps(v); }
TESSERA_INLINE Vec Load(const float* p) { return _mm512_loadu_ps(p); }
TESSERA_INLINE void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }

TESSERA_INLINE __mmask16 FirstLanes(int count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}
TESSERA_INLINE Vec LoadPartial(const float* p, int count) {
  return _mm512_maskz_loadu_ps(FirstLanes(count), p);
}
TESSERA_INLINE void StorePartial(float* p, Vec v, int count) {
  _mm512_mask_storeu_ps(p, FirstLanes(count), v);
}

TESSERA_INLINE Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
TESSERA_INLINE Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
TESSERA_INLINE Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
TESSERA_INLINE Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
TESSERA_INLINE Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
TESSERA_INLINE Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
TESSERA_INLINE Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }

TESSERA_INLINE Vec Round(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TESSERA_INLINE Vec TimesPowerOfTwo(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }

// The last two steps of the tree, on four lanes of each 128 bits; every lane gets the sum.
TESSERA_INLINE Vec SumWithinQuarters(Vec v) {
  const Vec two = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
  return _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
}
TESSERA_INLINE float ReduceSum(Vec v) {
  const Vec eight = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0x4e));
  const Vec four = _mm512_add_ps(eight, _mm512_shuffle_f32x4(eight, eight, 0xb1));
  return _mm512_cvtss_f32(SumWithinQuarters(four));
}
TESSERA_INLINE float ReduceMax(Vec v) { return _mm512_reduce_max_ps(v); }

TESSERA_INLINE uint32_t LanesBelow(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
TESSERA_INLINE void StoreWhole(int32_t* p, Vec v) {
  _mm512_storeu_si512(p, _mm512_cvtps_epi32(v));
}

template <typename Op>
TESSERA_INLINE Vec ReduceEach(const Vec* v, const Op& op) {
  Vec pairs[8], quads[4], halves[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pairs[i] = op(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                  _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
    quads[i] = op(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                  _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  const auto both = [&op](Vec a, Vec b) __attribute__((always_inline)) {
    return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  halves[0] = both(quads[0], quads[1]);
  halves[1] = both(quads[2], quads[3]);
  return both(halves[0], halves[1]);
}

TESSERA_INLINE void AddToDoubles(Vec v, double* p) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  _mm512_store_pd(p, _mm512_add_pd(_mm512_load_pd(p), low));
  _mm512_store_pd(p + 8, _mm512_add_pd(_mm512_load_pd(p + 8), high));
}

TESSERA_INLINE Vec LoadHalf(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TESSERA_INLINE Vec LoadBFloat16(const uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
TESSERA_INLINE void LoadBFloat16Pairs(const uint8_t* p, Vec* first, Vec* second) {
  const __m512i pairs = _mm512_loadu_si512(p);
  *first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  *second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

#if defined(TESSERA_SIMD_BF16)
using Pairs = __m512i;

TESSERA_INLINE Pairs LoadPairs(const void* p) { return _mm512_loadu_si512(p); }
TESSERA_INLINE Pairs LoadFirsts(const uint16_t* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TESSERA_INLINE Pairs SetPair(const void* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return _mm512_set1_epi32(pair);
}
TESSERA_INLINE Pairs KeepFirsts(Pairs v) { return _mm512_and_si512(v, _mm512_set1_epi32(0xffff)); }
TESSERA_INLINE Pairs KeepSeconds(Pairs v) { return _mm512_and_si512(v, _mm512_set1_epi32(-65536)); }
TESSERA_INLINE Vec AddDots(Vec sum, Pairs a, Pairs b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
TESSERA_INLINE Vec AddBFloat16Dots(Vec sum, const uint8_t* pairs, const uint8_t* pair) {
  return AddDots(sum, LoadPairs(pairs), SetPair(pair));
}
TESSERA_INLINE Vec StoreBFloat16(uint16_t* p, Vec v) {
  const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}
#endif

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_SIMD_AVX512_H_
