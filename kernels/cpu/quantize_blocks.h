// Blocks of a product's input as integers (matmul_input.h: kInt8), kLanes of them at once: what is
// found out about a block (its largest value, its sums) stands in the block's lane of a vector.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_QUANTIZE_BLOCKS_H_
#define TESSERA_KERNELS_CPU_QUANTIZE_BLOCKS_H_

#include <cstdint>

#include "kernels/cpu/codes.h"
#include "kernels/cpu/matmul_input.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// The sum of squares of `high` below which a block is peaked: 32 * (127 / 4)^2.
constexpr float kPeakedBelow = 32258.0f;
// Above any sum of squares: 32 * 127^2 = 516128.
constexpr float kMoreThanSquares = 520000.0f;
// A block of less counts as one whose largest value that is: the inverse of much less overflows.
constexpr float kLeastLargest = 1e-30f;

// What stands side by side: the same block of several tokens, or several blocks of one token.
enum class Side { kTokens, kBlocks };

// Where the first of them goes, in a tile of so many tokens.
struct QuantizedBlocks {
  int8_t* high;
  int8_t* low;
  float* scale;  // then the scaled sums
  int32_t* high_offsets;
  int32_t* low_offsets;
  int64_t tokens;
};

template <Side kSide>
TESSERA_INLINE int64_t Apart(const QuantizedBlocks& to, int64_t per_block) {
  return kSide == Side::kTokens ? 1 : per_block * to.tokens;
}

// One block's values, and vectors whose lanes add up to the sums of its halves.
struct BlockValues {
  static constexpr int kVecs = 32 / kLanes;
  Vec of[kVecs];

  TESSERA_INLINE Vec HalfSum(int half) const {
    Vec sum = of[half * (kVecs / 2)];
    for (int v = 1; v < kVecs / 2; ++v) sum = Add(sum, of[half * (kVecs / 2) + v]);
    return sum;
  }
  TESSERA_INLINE void StoreAt(int8_t* to) const {  // whole numbers in [-127, 127]
    for (int v = 0; v < kVecs; ++v) StoreInt8(to + v * kLanes, of[v]);
  }
};

TESSERA_INLINE BlockValues Scaled(const float* x, float inverse) {
  BlockValues values;
  for (int v = 0; v < BlockValues::kVecs; ++v) {
    values.of[v] = Mul(Load(x + v * kLanes), Set(inverse));
  }
  return values;
}

// The corrections of one block and plane, `stride` apart, from the sums of its halves.
TESSERA_INLINE void StoreOffsets(float low_half, float high_half, int64_t stride, int32_t* to) {
  const auto low = static_cast<int32_t>(low_half);
  const auto high = static_cast<int32_t>(high_half);
  to[kMinus8 * stride] = -8 * (low + high);
  to[kMinus16 * stride] = -16 * (low + high);
  to[kMinus128 * stride] = -128 * (low + high);
  to[kMinus32Low * stride] = -32 * low;
  to[kMinus32High * stride] = -32 * high;
}

// The low plane of a peaked block; its sum. x: 32 values.
TESSERA_INLINE float QuantizeLow(const float* x, float inverse, int64_t stride, int8_t* to,
                                 int32_t* offsets) {
  BlockValues values = Scaled(x, inverse);
  for (int v = 0; v < BlockValues::kVecs; ++v) {
    values.of[v] = Round(Mul(Sub(values.of[v], Round(values.of[v])), Set(128.0f)));
  }
  values.StoreAt(to);
  const float low = ReduceSum(values.HalfSum(0)), high = ReduceSum(values.HalfSum(1));
  StoreOffsets(low, high, stride, offsets);
  return low + high;
}

// Floats as they are, or whole numbers as int32.
TESSERA_INLINE void StoreAs(float* to, Vec v) { Store(to, v); }
TESSERA_INLINE void StoreAs(int32_t* to, Vec v) { StoreWhole(to, v); }

// `count` lanes to places `apart` from one another.
template <typename T>
TESSERA_INLINE void Spread(Vec v, int count, int64_t apart, T* to) {
  if (apart == 1 && count == kLanes) return StoreAs(to, v);
  alignas(64) T lanes[kLanes];
  StoreAs(lanes, v);
  for (int i = 0; i < count; ++i) to[i * apart] = lanes[i];
}

// Zeros in the lanes whose bits are set, and in those blocks' values.
TESSERA_INLINE void Clear(uint32_t lanes, Vec* low, Vec* high, int8_t* values, int64_t apart) {
  alignas(64) float sums[2][kLanes];
  Store(sums[0], *low);
  Store(sums[1], *high);
  for (; lanes != 0; lanes &= lanes - 1) {
    const int i = __builtin_ctz(lanes);
    sums[0][i] = sums[1][i] = 0.0f;
    for (int j = 0; j < 32; ++j) values[i * apart + j] = 0;
  }
  *low = Load(sums[0]);
  *high = Load(sums[1]);
}

// Blocks x, x + apart, ... of 32 values each, at most kLanes. Bit i of the result: block i is peaked;
// `low` and its corrections are written then only. All sums are of whole numbers below 2^24: exact.
template <Side kSide>
TESSERA_INLINE uint32_t QuantizeBlocks(const float* x, int64_t apart, int count,
                                       const QuantizedBlocks& to) {
  const auto add = [](Vec a, Vec b) __attribute__((always_inline)) { return Add(a, b); };
  const auto max = [](Vec a, Vec b) __attribute__((always_inline)) { return Max(a, b); };
  const int64_t bytes_apart = 32 * Apart<kSide>(to, 1);
  const int64_t scales_apart = Apart<kSide>(to, 2);
  const int64_t offsets_apart = Apart<kSide>(to, kNumOffsets);

  Vec of_block[kLanes], low_halves[kLanes], high_halves[kLanes];
  for (int i = count; i < kLanes; ++i) of_block[i] = low_halves[i] = high_halves[i] = Zero();
  for (int i = 0; i < count; ++i) {
    Vec largest = Zero();
    for (int v = 0; v < BlockValues::kVecs; ++v) {
      const Vec value = Load(x + i * apart + v * kLanes);
      largest = Max(largest, Max(value, Sub(Zero(), value)));
    }
    of_block[i] = largest;
  }
  const Vec largest = Max(ReduceEach(of_block, max), Set(kLeastLargest));
  Vec scale = Div(largest, Set(127.0f));
  alignas(64) float inverse[kLanes];
  Store(inverse, Div(Set(127.0f), largest));

  for (int i = 0; i < count; ++i) {
    BlockValues high = Scaled(x + i * apart, inverse[i]);
    Vec squares = Zero();
    for (int v = 0; v < BlockValues::kVecs; ++v) {
      high.of[v] = Round(high.of[v]);
      squares = MulAdd(high.of[v], high.of[v], squares);
    }
    high.StoreAt(to.high + i * bytes_apart);
    of_block[i] = squares;
    low_halves[i] = high.HalfSum(0);
    high_halves[i] = high.HalfSum(1);
  }
  const Vec squares = ReduceEach(of_block, add);
  Vec low_sums = ReduceEach(low_halves, add), high_sums = ReduceEach(high_halves, add);
  const uint32_t not_finite = ~LanesBelow(squares, Set(kMoreThanSquares)) & ((1u << count) - 1);
  if (not_finite != 0) {
    Clear(not_finite, &low_sums, &high_sums, to.high, bytes_apart);
    scale = Add(scale, Mul(squares, Zero()));  // not a number where the squares are none
  }

  const Vec sums = Add(low_sums, high_sums);
  Spread(scale, count, scales_apart, to.scale);
  Spread(Mul(scale, sums), count, scales_apart, to.scale + to.tokens);
  const auto store_offsets = [&](Offset offset, Vec v) __attribute__((always_inline)) {
    Spread(v, count, offsets_apart, to.high_offsets + offset * to.tokens);
  };
  store_offsets(kMinus8, Mul(sums, Set(-8.0f)));
  store_offsets(kMinus16, Mul(sums, Set(-16.0f)));
  store_offsets(kMinus128, Mul(sums, Set(-128.0f)));
  store_offsets(kMinus32Low, Mul(low_sums, Set(-32.0f)));
  store_offsets(kMinus32High, Mul(high_sums, Set(-32.0f)));

  const uint32_t peaked = LanesBelow(Zero(), squares) & LanesBelow(squares, Set(kPeakedBelow));
  if (peaked == 0) return 0;
  alignas(64) float scales[kLanes], whole_sums[kLanes];
  Store(scales, scale);
  Store(whole_sums, sums);
  for (uint32_t left = peaked; left != 0; left &= left - 1) {
    const int i = __builtin_ctz(left);
    const float low = QuantizeLow(x + i * apart, inverse[i], to.tokens, to.low + i * bytes_apart,
                                  to.low_offsets + i * offsets_apart);
    to.scale[i * scales_apart + to.tokens] = scales[i] * (whole_sums[i] + low * (1.0f / 128));
  }
  return peaked;
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_QUANTIZE_BLOCKS_H_
