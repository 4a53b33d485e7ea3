// Inputs of products into the forms of matmul_input.h.
#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/half.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kVecs = 32 / kLanes;

// The sum of squares of `high` below which a block is peaked: 32 * (127 / 4)^2.
constexpr float kPeakedBelow = 32258.0f;

// Sums over the halves of a block.
struct HalfSums {
  float low;
  float high;
};

TESSERA_INLINE BlockOffsets OffsetsOf(HalfSums sums) {
  const auto low = static_cast<int32_t>(sums.low);
  const auto high = static_cast<int32_t>(sums.high);
  const int32_t sum = low + high;
  return {.minus_8 = -8 * sum,
          .minus_16 = -16 * sum,
          .minus_128 = -128 * sum,
          .minus_32_low = -32 * low,
          .minus_32_high = -32 * high,
          .unused = 0};
}

// Whole numbers in [-127, 127] to bytes, and their sums: both halves' in one number, the second
// times 4096, which below 2^24 is exact.
TESSERA_INLINE HalfSums StorePlane(const Vec* values, int8_t* to) {
  Vec halves[2] = {Zero(), Zero()};
  for (int v = 0; v < kVecs; ++v) {
    StoreInt8(to + v * kLanes, values[v]);
    halves[v / (kVecs / 2)] = Add(halves[v / (kVecs / 2)], values[v]);
  }
  const float both = ReduceSum(MulAdd(halves[1], Set(4096.0f), halves[0]));
  const float high = __builtin_rintf(both * (1.0f / 4096));
  return {both - high * 4096.0f, high};
}

// Where one token's block goes.
struct QuantizedBlock {
  int8_t* high;
  int8_t* low;
  BlockScales* scales;
  BlockOffsets* high_offsets;
  BlockOffsets* low_offsets;
};

// True if the block is peaked; `low` is written then only.
TESSERA_INLINE bool QuantizeBlock(const float* x, const QuantizedBlock& to) {
  Vec values[kVecs];
  Vec largest = Zero();
  for (int v = 0; v < kVecs; ++v) {
    values[v] = Load(x + v * kLanes);
    largest = Max(largest, Max(values[v], Sub(Zero(), values[v])));
  }
  const float max = ReduceMax(largest);
  // So small that its inverse might overflow: as good as zero.
  const bool zero = !(max > 1e-30f);
  const Vec inverse = Set(zero ? 0.0f : 127.0f / max);
  float scale = zero ? 0.0f : max / 127.0f;
  Vec high[kVecs];
  Vec squares = Zero();
  for (int v = 0; v < kVecs; ++v) {
    values[v] = Mul(values[v], inverse);
    high[v] = Round(values[v]);
    squares = MulAdd(high[v], high[v], squares);  // whole numbers below 2^24: exact
  }
  const float square_sum = ReduceSum(squares);
  if (square_sum != square_sum) {  // something is not finite; the bytes must be something
    for (int v = 0; v < kVecs; ++v) high[v] = Zero();
    scale = square_sum;
  }
  const HalfSums sums = StorePlane(high, to.high);
  *to.high_offsets = OffsetsOf(sums);
  float sum = sums.low + sums.high;
  const bool peaked = !zero && square_sum < kPeakedBelow;
  if (peaked) {
    for (int v = 0; v < kVecs; ++v) {
      values[v] = Round(Mul(Sub(values[v], high[v]), Set(128.0f)));
    }
    const HalfSums low_sums = StorePlane(values, to.low);
    *to.low_offsets = OffsetsOf(low_sums);
    sum += (low_sums.low + low_sums.high) * (1.0f / 128);
  }
  *to.scales = {.scale = scale, .scaled_sum = scale * sum};
  return peaked;
}

// `count` columns, at most 32, filled up with zeros.
TESSERA_INLINE const float* WholeBlock(const float* x, int64_t count, float* room) {
  if (count >= 32) return x;
  for (int64_t j = 0; j < 32; ++j) room[j] = j < count ? x[j] : 0.0f;
  return room;
}

void PrepareIntegers(const float* x, int64_t cols, int64_t tokens, const InputPart& part,
                     uint8_t* tile) {
  const Int8Tile to = Int8TileAt(tile, cols, tokens);
  for (int64_t b = part.block_begin; b < part.block_end; ++b) to.peaked[b] = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t b = part.block_begin; b < part.block_end; ++b) {
      float room[32];
      const float* from = WholeBlock(x + t * cols + b * 32, cols - b * 32, room);
      const int64_t at = b * tokens + t;
      const bool peaked = QuantizeBlock(from, {.high = to.high + at * 32,
                                               .low = to.low + at * 32,
                                               .scales = to.scales + at,
                                               .high_offsets = to.high_offsets + at,
                                               .low_offsets = to.low_offsets + at});
      to.peaked[b] |= static_cast<uint32_t>(peaked) << t;
    }
  }
}

template <InputForm kForm>
void PrepareFloats(const float* x, int64_t cols, int64_t tokens, const InputPart& part,
                   uint8_t* tile) {
  [[maybe_unused]] const int64_t plane = BlocksOf(cols) * tokens * PlaneBytes(kForm);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t b = part.block_begin; b < part.block_end; ++b) {
      float room[32];
      const float* from = WholeBlock(x + t * cols + b * 32, cols - b * 32, room);
      uint8_t* to = tile + (b * tokens + t) * PlaneBytes(kForm);
      if constexpr (kForm == InputForm::kFloat32) {
        for (int v = 0; v < kVecs; ++v) {
          Store(reinterpret_cast<float*>(to) + v * kLanes, Load(from + v * kLanes));
        }
      } else {
        for (int j = 0; j < 32; ++j) {
          const uint16_t upper = FloatToBFloat16(from[j]);
          reinterpret_cast<uint16_t*>(to)[j] = upper;
          if constexpr (kForm == InputForm::kBFloat16Pair) {
            const float left = from[j] - BFloat16ToFloat(upper);
            reinterpret_cast<uint16_t*>(to + plane)[j] = FloatToBFloat16(left);
          }
        }
      }
    }
  }
}

}  // namespace

void PrepareInput(InputForm form, const float* x, int64_t cols, int64_t n, const InputPart& part,
                  uint8_t* prepared) {
  for (int64_t t = part.token_begin; t < part.token_end; t += kTokenTile) {
    const int64_t tokens = n - t < kTokenTile ? n - t : kTokenTile;
    uint8_t* tile = prepared + InputBytes(form, cols, t);
    const float* from = x + t * cols;
    switch (form) {
      case InputForm::kFloat32:
        PrepareFloats<InputForm::kFloat32>(from, cols, tokens, part, tile);
        break;
      case InputForm::kBFloat16:
        PrepareFloats<InputForm::kBFloat16>(from, cols, tokens, part, tile);
        break;
      case InputForm::kBFloat16Pair:
        PrepareFloats<InputForm::kBFloat16Pair>(from, cols, tokens, part, tile);
        break;
      case InputForm::kInt8:
        PrepareIntegers(from, cols, tokens, part, tile);
        break;
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
