// Products of quantized weights: per block of 32 columns the exact integer sum of codes times
// quantized inputs, then float32 over the blocks in order. One function does that for one token or
// sixteen, so an output has the same bits whatever company it is computed in.
#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/rows_block.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

// How far ahead of their reading weights are asked for.
constexpr int64_t kPrefetchBytes = 4096;

// x: `plane` bytes from one plane to the other.
template <int kQuads, int kCodeBits>
TESSERA_INLINE Vec Dot(const Codes* codes, const int8_t* x, int64_t plane, const int32_t* start) {
  const Ints high = DotQuads<kQuads, kCodeBits>(codes, x, nullptr);
  const Ints low = DotQuads<kQuads, kCodeBits>(codes, x + plane, start);
  return ToFloats(ShiftedPlus<7>(high, low));
}

// sums + the block's part of one token's outputs.
template <DType kType>
TESSERA_INLINE Vec AddBlock(const RowsBlock& rows, const int8_t* x, int64_t plane,
                            const BlockScales& s, const BlockOffsets& offsets, Vec sums) {
  constexpr int kCodeBits = kBits<kType>;
  const Vec scale = Set(s.scale);
  if constexpr (kType == DType::kQ6_K32) {
    sums = MulAdd(Dot<4, kCodeBits>(rows.codes, x, plane, &offsets.minus_32_low),
                  Mul(rows.scale[0], scale), sums);
    return MulAdd(Dot<4, kCodeBits>(rows.codes + 4, x + 16, plane, &offsets.minus_32_high),
                  Mul(rows.scale[1], scale), sums);
  } else if constexpr (kNibbles<kType>) {
    constexpr bool kEight = kType == DType::kQ4_0;
    const Ints dot = DotNibbles(rows.codes, x, kEight ? &offsets.minus_8 : nullptr,
                                kEight ? &offsets.minus_128 : nullptr);
    sums = MulAdd(ToFloats(dot), Mul(rows.scale[0], scale), sums);
    if constexpr (kHasAdd<kType>) sums = MulAdd(rows.add, Set(s.scaled_sum), sums);
    return sums;
  } else {
    const int32_t* start = kType == DType::kQ5_0 ? &offsets.minus_16
                           : kType == DType::kQ8_0 ? &offsets.minus_128
                                                   : nullptr;
    sums = MulAdd(Dot<8, kCodeBits>(rows.codes, x, plane, start), Mul(rows.scale[0], scale), sums);
    if constexpr (kHasAdd<kType>) sums = MulAdd(rows.add, Set(s.scaled_sum), sums);
    return sums;
  }
}

// kPartial: into float64 (ProductArgs::partials).
template <DType kType, bool kPartial>
struct QuantizedKernel {
  template <int kTokens>
  static constexpr int kGroups = 1;
  static constexpr int kMaxTokens = kLanes == 16 ? 16 : 4;

  static constexpr int64_t kInputBytes = kNibbles<kType> ? 64 : 32;  // of one token's block

  static int64_t GroupBytes(int64_t cols) { return cols / 32 * kBlockBytes<kType>; }

  template <int kGroupCount, int kTokens>
  static void Run(const ProductArgs& args, int64_t group, const TileTokens& tokens) {
    const int64_t blocks = args.cols / 32;
    for (int part = 0; part < kParts; ++part) {
      const uint8_t* block = args.w + group * GroupBytes(args.cols);
      const auto* x = reinterpret_cast<const int8_t*>(tokens.values);
      const BlockScales* scales = tokens.scales;
      const BlockOffsets* offsets = tokens.offsets;
      Vec sums[kTokens];
      alignas(64) double totals[kPartial ? kTokens * kLanes : 1] = {};
      int64_t left = args.segment_blocks;
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sums[t] = Zero();
      for (int64_t b = 0; b < blocks; ++b) {
        if constexpr (kTokens <= 2) {
#pragma GCC unroll 9
          for (int64_t line = 0; line < kBlockBytes<kType>; line += 64) {
            __builtin_prefetch(block + kPrefetchBytes + line);
          }
        }
        RowsBlock rows;
        LoadScales<kType>(block, part, &rows);
        LoadBlockCodes<kType>(block, part, rows.codes);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          sums[t] = AddBlock<kType>(rows, x + t * kInputBytes, tokens.plane, scales[t], offsets[t],
                                    sums[t]);
        }
        block += kBlockBytes<kType>;
        x += tokens.stride * kInputBytes;
        scales += tokens.stride;
        offsets += tokens.stride;
        if constexpr (kPartial) {
          if (--left > 0 && b + 1 < blocks) continue;
          left = args.segment_blocks;
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            AddToDoubles(sums[t], totals + t * kLanes);
            sums[t] = Zero();
          }
        }
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
