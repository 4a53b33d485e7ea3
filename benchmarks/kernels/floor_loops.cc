#include "benchmarks/kernels/floor_loops.h"

#include "kernels/cpu/simd.h"
#if defined(TESSERA_SIMD_AMX)
#include "kernels/cpu/tile_config.h"
#endif

#define TESSERA_QUOTE_INNER(x) #x
#define TESSERA_QUOTE(x) TESSERA_QUOTE_INNER(x)

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kChains = 12;
constexpr int kRounds = 4096;

void MultiplyAdds() {
  Vec sums[kChains];
  for (Vec& sum : sums) sum = Zero();
  float one = 0.999f;
  float other = 0.5f;
  asm volatile("" : "+x"(one), "+x"(other));  // values the compiler cannot compute with
  const Vec factor = Set(one);
  const Vec term = Set(other);
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = MulAdd(sums[c], factor, term);
  }
  Vec total = Zero();
  for (const Vec& sum : sums) total = Add(total, sum);
  volatile float kept = ReduceSum(total);
  static_cast<void>(kept);
}
constexpr int64_t kMultiplyAddOperations = int64_t{2} * kLanes * kChains * kRounds;

#if defined(TESSERA_SIMD_VNNI)
void ByteDots() {
  __m512i sums[kChains];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  int32_t codes = 0x01020304;
  int32_t inputs = 0x05060708;
  asm volatile("" : "+r"(codes), "+r"(inputs));
  const __m512i a = _mm512_set1_epi32(codes);
  const __m512i b = _mm512_set1_epi32(inputs);
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
  }
  __m512i total = _mm512_setzero_si512();
  for (const __m512i& sum : sums) total = _mm512_add_epi32(total, sum);
  volatile int32_t kept = _mm512_reduce_add_epi32(total);
  static_cast<void>(kept);
}
#endif

#if defined(TESSERA_SIMD_BF16)
void BFloat16Dots() {
  __m512 sums[kChains];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  int32_t weights = 0x3f003f00;
  int32_t inputs = 0x3e803e80;
  asm volatile("" : "+r"(weights), "+r"(inputs));
  const __m512i a = _mm512_set1_epi32(weights);
  const __m512i b = _mm512_set1_epi32(inputs);
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      sums[c] = _mm512_dpbf16_ps(sums[c], reinterpret_cast<__m512bh>(a),
                                 reinterpret_cast<__m512bh>(b));
    }
  }
  __m512 total = _mm512_setzero_ps();
  for (const __m512& sum : sums) total = _mm512_add_ps(total, sum);
  volatile float kept = _mm512_reduce_add_ps(total);
  static_cast<void>(kept);
}
#endif

#if defined(TESSERA_SIMD_AMX)
void ConfigureFullTiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = 16;
  }
  LoadTiles(config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
}

void ByteTiles() {
  ConfigureFullTiles();
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
    _tile_dpbssd(0, 4, 5);
    _tile_dpbssd(1, 4, 5);
    _tile_dpbssd(2, 4, 5);
    _tile_dpbssd(3, 4, 5);
  }
  _tile_release();
}

void BFloat16Tiles() {
  ConfigureFullTiles();
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
}
#endif

float ReadAll(const float* data, int64_t count) {
  Vec sums[8];
  for (Vec& sum : sums) sum = Zero();
  for (int64_t i = 0; i < count; i += int64_t{8} * kLanes) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < 8; ++k) sums[k] = Add(sums[k], Load(data + i + k * kLanes));
  }
  Vec total = Zero();
  for (const Vec& sum : sums) total = Add(total, sum);
  return ReduceSum(total);
}

}  // namespace

const FloorLoops kFloorLoops = {
    .name = TESSERA_QUOTE(TESSERA_ISA),
    .float32 = {MultiplyAdds, kMultiplyAddOperations},
#if defined(TESSERA_SIMD_VNNI)
    .int8_dots = {ByteDots, int64_t{2} * 64 * kChains * kRounds},
#else
    .int8_dots = {},
#endif
#if defined(TESSERA_SIMD_BF16)
    .bfloat16_dots = {BFloat16Dots, int64_t{2} * 32 * kChains * kRounds},
#else
    .bfloat16_dots = {},
#endif
#if defined(TESSERA_SIMD_AMX)
    .int8_tiles = {ByteTiles, int64_t{4} * 2 * 16 * 16 * 64 * kRounds},
    .bfloat16_tiles = {BFloat16Tiles, int64_t{4} * 2 * 16 * 16 * 32 * kRounds},
#else
    .int8_tiles = {},
    .bfloat16_tiles = {},
#endif
    .read_all = ReadAll,
};

}  // namespace tessera::kernels::cpu::TESSERA_ISA
