// Inputs of products into the forms of matmul_input.h.
#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/half.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kVecs = 32 / kLanes;

// One block of 32 to two planes that stand `plane` bytes apart.
template <InputForm kForm>
TESSERA_INLINE void QuantizeBlock(const float* x, int8_t* q, int64_t plane, BlockScales* scales,
                                  BlockOffsets* offsets) {
  constexpr float kLimit = LimitOf(kForm);
  constexpr float kRadix = RadixOf(kForm);
  Vec input[kVecs];
  Vec largest = Zero();
  Vec not_finite = Zero();  // v - v: 0, or not a number
  for (int v = 0; v < kVecs; ++v) {
    input[v] = Load(x + v * kLanes);
    largest = Max(largest, Max(input[v], Sub(Zero(), input[v])));
    not_finite = Add(not_finite, Sub(input[v], input[v]));
  }
  const float max = ReduceMax(largest);
  const float spoiled = ReduceSum(not_finite);
  // So small that its inverse might overflow: as good as zero. Not finite: q must be something.
  const bool zero = !(max > 1e-30f) || spoiled != spoiled;
  const Vec inverse = Set(zero ? 0.0f : kLimit / max);
  float half_sums[2] = {0, 0};
  for (int v = 0; v < kVecs; ++v) {
    const Vec rounded = zero ? Zero() : Round(Mul(input[v], inverse));
    half_sums[v / (kVecs / 2)] += ReduceSum(rounded);  // whole numbers below 2^24: exact
    const Vec high = Round(Mul(rounded, Set(1.0f / kRadix)));
    StoreInt8(q + v * kLanes, high);
    StoreInt8(q + plane + v * kLanes, MulAdd(high, Set(-kRadix), rounded));  // exact
  }
  const float scale = (zero ? 0.0f : max / kLimit) + spoiled;
  const int32_t low = static_cast<int32_t>(half_sums[0]);
  const int32_t high = static_cast<int32_t>(half_sums[1]);
  const int32_t sum = low + high;
  *scales = {.scale = scale, .scaled_sum = scale * static_cast<float>(sum)};
  *offsets = {.minus_8 = -8 * sum,
              .minus_16 = -16 * sum,
              .minus_128 = -128 * sum,
              .minus_32_low = -32 * low,
              .minus_32_high = -32 * high,
              .unused = 0};
}

template <InputForm kForm>
void PrepareTile(const float* x, int64_t cols, int64_t tokens, uint8_t* tile) {
  const int64_t blocks = BlocksOf(cols);
  const int64_t plane = blocks * tokens * PlaneBytes(kForm);
  auto* scales = reinterpret_cast<BlockScales*>(tile + PlanesOf(kForm) * plane);
  auto* offsets = reinterpret_cast<BlockOffsets*>(scales + blocks * tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t b = 0; b < blocks; ++b) {
      const float* from = x + t * cols + b * 32;
      uint8_t* to = tile + (b * tokens + t) * PlaneBytes(kForm);
      float last[32];
      if (cols - b * 32 < 32) {
        for (int64_t j = 0; j < 32; ++j) last[j] = b * 32 + j < cols ? from[j] : 0.0f;
        from = last;
      }
      if constexpr (kForm == InputForm::kFloat32) {
        for (int v = 0; v < kVecs; ++v) {
          Store(reinterpret_cast<float*>(to) + v * kLanes, Load(from + v * kLanes));
        }
      } else if constexpr (kForm == InputForm::kBFloat16Pair) {
        for (int j = 0; j < 32; ++j) {
          const uint16_t upper = FloatToBFloat16(from[j]);
          const float left = from[j] - BFloat16ToFloat(upper);
          reinterpret_cast<uint16_t*>(to)[j] = upper;
          reinterpret_cast<uint16_t*>(to + plane)[j] = FloatToBFloat16(left);
        }
      } else {
        QuantizeBlock<kForm>(from, reinterpret_cast<int8_t*>(to),
                             kForm == InputForm::kInt12 ? 32 : plane, &scales[b * tokens + t],
                             &offsets[b * tokens + t]);
      }
    }
  }
}

}  // namespace

void PrepareInput(InputForm form, const float* x, int64_t cols, int64_t n, int64_t token_begin,
                  int64_t token_end, uint8_t* prepared) {
  for (int64_t t = token_begin; t < token_end; t += kTokenTile) {
    const int64_t tokens = n - t < kTokenTile ? n - t : kTokenTile;
    uint8_t* tile = prepared + InputBytes(form, cols, t);
    const float* from = x + t * cols;
    switch (form) {
      case InputForm::kFloat32:
        PrepareTile<InputForm::kFloat32>(from, cols, tokens, tile);
        break;
      case InputForm::kBFloat16Pair:
        PrepareTile<InputForm::kBFloat16Pair>(from, cols, tokens, tile);
        break;
      case InputForm::kInt15:
        PrepareTile<InputForm::kInt15>(from, cols, tokens, tile);
        break;
      case InputForm::kInt12:
        PrepareTile<InputForm::kInt12>(from, cols, tokens, tile);
        break;
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
