// Products of quantized weights: per block of 32 columns the exact integer sum of codes times
// quantized inputs, then float32 over the blocks in order; the low planes' sums on their own, added
// at the end. Partial sums of a segment of blocks are moved to float64 token by token, while the next
// segment's first block is multiplied: all at once they would wait for one another's stores. One
// function does that for one token or sixteen, so an output has the same bits whatever company it is
// computed in.
#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/low_sums.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/rows_block.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

// sums + codes times one plane of a token's block, scaled. Without what the type adds. offsets: the
// plane's of that block and token, `stride` apart.
template <DType kType>
TESSERA_INLINE Vec AddDots(const RowsBlock& rows, const int8_t* x, float scale,
                           const int32_t* offsets, int64_t stride, Vec sums) {
  constexpr int kCodeBits = kBits<kType>;
  const Vec input_scale = Set(scale);
  if constexpr (kType == DType::kQ6_K32) {
    const Ints low = DotQuads<4, kCodeBits>(rows.codes, x, offsets + kMinus32Low * stride);
    const Ints high =
        DotQuads<4, kCodeBits>(rows.codes + 4, x + 16, offsets + kMinus32High * stride);
    sums = MulAdd(ToFloats(low), Mul(rows.scale[0], input_scale), sums);
    return MulAdd(ToFloats(high), Mul(rows.scale[1], input_scale), sums);
  } else {
    constexpr int kOffset = kType == DType::kQ4_0   ? kMinus8
                            : kType == DType::kQ5_0 ? kMinus16
                            : kType == DType::kQ8_0 ? kMinus128
                                                    : -1;
    const int32_t* start = kOffset < 0 ? nullptr : offsets + kOffset * stride;
    const Ints dots = DotQuads<8, kCodeBits>(rows.codes, x, start);
    return MulAdd(ToFloats(dots), Mul(rows.scale[0], input_scale), sums);
  }
}

// kPartial: into float64 (ProductArgs::partials).
template <DType kType, bool kPartial>
struct QuantizedKernel {
  template <int kTokens>
  static constexpr int kGroups = 1;
  static constexpr int kMaxTokens = kLanes == 16 ? 16 : 4;

  static int64_t GroupBytes(int64_t cols) { return cols / 32 * kBlockBytes<kType>; }

  template <int kGroupCount, int kTokens>
  static void Run(const ProductArgs& args, int64_t group, const TileTokens& tokens) {
    const int64_t blocks = args.cols / 32;
    for (int part = 0; part < kParts; ++part) {
      const uint8_t* block = args.w + group * GroupBytes(args.cols);
      const auto* x = reinterpret_cast<const int8_t*>(tokens.values);
      int64_t at = 0;  // of the block's first token
      const int64_t stride = tokens.stride;
      Vec sums[kTokens];
      LowSums<kTokens> low_sums;
      alignas(64) double totals[kPartial ? kTokens * kLanes : 1];
      if constexpr (kPartial) ZeroDoubles<kTokens>(totals);
      int64_t left = args.segment_blocks;
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sums[t] = Zero();
      for (int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 9
        for (int64_t line = 0; line < kBlockBytes<kType>; line += 64) {
          __builtin_prefetch(block + kPrefetchBytes + line);
        }
        RowsBlock rows;
        LoadScales<kType>(block, part, &rows);
        LoadBlockCodes<kType>(block, part, rows.codes);
        const float* scales = tokens.scales + 2 * at;
        // kBegins: a segment behind another, what that gave is moved.
        const auto add_block = [&]<bool kBegins>() __attribute__((always_inline)) {
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            if constexpr (kBegins) {
              AddToDoubles(sums[t], totals + t * kLanes);
              sums[t] = Zero();
            }
            sums[t] = AddDots<kType>(rows, x + (at + t) * 32, scales[t],
                                     tokens.high_offsets + kNumOffsets * at + t, stride, sums[t]);
            if constexpr (kHasAdd<kType>) {
              sums[t] = MulAdd(rows.add, Set(scales[stride + t]), sums[t]);
            }
          }
        };
        if constexpr (kPartial) {
          if (left == 0) {
            left = args.segment_blocks;
            add_block.template operator()<true>();
          } else {
            add_block.template operator()<false>();
          }
          --left;
        } else {
          add_block.template operator()<false>();
        }
        const uint32_t peaked = tokens.PeakedIn<kTokens>(b);
        const auto add_low = [&](int t, Vec sum) __attribute__((always_inline)) {
          return AddDots<kType>(rows, x + tokens.plane + (at + t) * 32, scales[t] * kLowUnit,
                                tokens.low_offsets + kNumOffsets * at + t, stride, sum);
        };
        if constexpr (kPartial) {
          VisitPeaked<kTokens>(peaked, [&](int t) __attribute__((always_inline)) {
            AddToDoubles(add_low(t, Zero()), totals + t * kLanes);
          });
        } else {
          low_sums.AddBlock(peaked, add_low);
        }
        block += kBlockBytes<kType>;
        at += stride;
      }
      if constexpr (kPartial) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) AddToDoubles(sums[t], totals + t * kLanes);
      } else {
        low_sums.MoveTo(sums);
      }
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const int64_t row = group * 16 + part * kLanes;
        if constexpr (kPartial) {
          StorePartials(args, tokens.first + t, row, totals + t * kLanes);
        } else {
          StoreRows(args, tokens.first + t, row, sums[t]);
        }
      }
    }
  }
};

template <DType kType>
void MultiplyType(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                  int64_t first_token) {
  if (args.partials) {
    WalkProduct<QuantizedKernel<kType, true>>(args, group_begin, group_end, first_token);
  } else {
    WalkProduct<QuantizedKernel<kType, false>>(args, group_begin, group_end, first_token);
  }
}

}  // namespace

void MultiplyQuantized(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                       int64_t first_token) {
  VisitQuantized(args.dtype, [&]<DType kType>() {
    MultiplyType<kType>(args, group_begin, group_end, first_token);
  });
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
