// Products of quantized weights: per block of 32 columns the exact integer sum of codes times
// quantized inputs, then float32 over the blocks in order. One function does that for one token or
// sixteen, so an output has the same bits whatever company it is computed in.
#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/matmul_tiles.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

// How far ahead of their reading weights are asked for.
constexpr int64_t kPrefetchBytes = 4096;

// Bytes of a packed block; see packed_weights.h for what stands where.
template <DType kType>
constexpr int64_t kBlockBytes = kType == DType::kQ8_0     ? 544
                                : kType == DType::kQ4_0   ? 288
                                : kType == DType::kQ4_1   ? 320
                                : kType == DType::kQ5_0   ? 352
                                : kType == DType::kQ5_1   ? 384
                                : kType == DType::kQ4_K32 ? 352
                                : kType == DType::kQ5_K32 ? 416
                                                          : 448;
template <DType kType>
constexpr int kScalesBytes = kType == DType::kQ4_1 || kType == DType::kQ5_1       ? 64
                             : kType == DType::kQ4_K32 || kType == DType::kQ5_K32 ? 96
                             : kType == DType::kQ6_K32                            ? 64
                                                                                  : 32;
template <DType kType>
constexpr int kBits = kType == DType::kQ8_0                                ? 8
                      : kType == DType::kQ6_K32                            ? 6
                      : kType == DType::kQ5_0 || kType == DType::kQ5_1 ||
                              kType == DType::kQ5_K32                      ? 5
                                                                           : 4;
// w = scale * code + add, rather than scale * (code - a constant).
template <DType kType>
constexpr bool kHasAdd = kType == DType::kQ4_1 || kType == DType::kQ5_1 ||
                         kType == DType::kQ4_K32 || kType == DType::kQ5_K32;

// One block of kLanes rows.
struct RowsBlock {
  Codes codes[8];
  Vec scale[2];  // the second: of columns 16..31, kQ6_K32 only
  Vec add;
};

TESSERA_INLINE Vec LoadHalves(const uint8_t* p) {
  return LoadHalf(reinterpret_cast<const uint16_t*>(p));
}

template <DType kType>
TESSERA_INLINE void LoadScales(const uint8_t* block, int part, RowsBlock* rows) {
  const int lane = part * kLanes;
  const Vec d = LoadHalves(block + 2 * lane);
  if constexpr (kType == DType::kQ4_K32 || kType == DType::kQ5_K32) {
    rows->scale[0] = Mul(d, LoadBytes(block + 64 + lane));
    rows->add = Sub(Zero(), Mul(LoadHalves(block + 32 + 2 * lane), LoadBytes(block + 80 + lane)));
  } else if constexpr (kType == DType::kQ6_K32) {
    rows->scale[0] = Mul(d, LoadSignedBytes(block + 32 + lane));
    rows->scale[1] = Mul(d, LoadSignedBytes(block + 48 + lane));
  } else {
    rows->scale[0] = d;
    if constexpr (kHasAdd<kType>) rows->add = LoadHalves(block + 32 + 2 * lane);
  }
}

template <DType kType>
TESSERA_INLINE void LoadBlockCodes(const uint8_t* block, int part, Codes* codes) {
  const uint8_t* planes = block + kScalesBytes<kType> + part * 4 * kLanes;
  if constexpr (kType == DType::kQ8_0) {
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) codes[q] = PrepareBytes(LoadCodes(planes + 64 * q));
  } else {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const Codes bytes = LoadCodes(planes + 64 * k);
      codes[k] = Nibbles<false>(bytes);
      codes[k + 4] = Nibbles<true>(bytes);
    }
  }
  if constexpr (kBits<kType> == 5) {
    const Codes fifths = LoadCodes(planes + 256);
    codes[0] = WithBits<4, 16>(codes[0], fifths);
    codes[1] = WithBits<3, 16>(codes[1], fifths);
    codes[2] = WithBits<2, 16>(codes[2], fifths);
    codes[3] = WithBits<1, 16>(codes[3], fifths);
    codes[4] = WithBits<0, 16>(codes[4], fifths);
    codes[5] = WithBits<-1, 16>(codes[5], fifths);
    codes[6] = WithBits<-2, 16>(codes[6], fifths);
    codes[7] = WithBits<-3, 16>(codes[7], fifths);
  }
  if constexpr (kBits<kType> == 6) {
    for (int h = 0; h < 2; ++h) {
      const Codes sixths = LoadCodes(planes + 256 + 64 * h);
      codes[4 * h] = WithBits<4, 48>(codes[4 * h], sixths);
      codes[4 * h + 1] = WithBits<2, 48>(codes[4 * h + 1], sixths);
      codes[4 * h + 2] = WithBits<0, 48>(codes[4 * h + 2], sixths);
      codes[4 * h + 3] = WithBits<-2, 48>(codes[4 * h + 3], sixths);
    }
  }
}

template <int kPlanes, int kQuads, int kCodeBits>
TESSERA_INLINE Vec Dot(const Codes* codes, const int8_t* x, const int32_t* start) {
  if constexpr (kPlanes == 1) {
    return ToFloats(DotQuads<kQuads, kCodeBits>(codes, x, start));
  } else {
    const Ints high = DotQuads<kQuads, kCodeBits>(codes, x, nullptr);
    const Ints low = DotQuads<kQuads, kCodeBits>(codes, x + 32, start);
    return ToFloats(Times128Plus(high, low));
  }
}

// sums + the block's part of one token's outputs.
template <DType kType, int kPlanes>
TESSERA_INLINE Vec AddBlock(const RowsBlock& rows, const int8_t* x, const BlockScales& s, Vec sums) {
  constexpr int kCodeBits = kBits<kType>;
  const Vec scale = Set(s.scale);
  if constexpr (kType == DType::kQ6_K32) {
    sums = MulAdd(Dot<kPlanes, 4, kCodeBits>(rows.codes, x, &s.minus_32_low),
                  Mul(rows.scale[0], scale), sums);
    return MulAdd(Dot<kPlanes, 4, kCodeBits>(rows.codes + 4, x + 16, &s.minus_32_high),
                  Mul(rows.scale[1], scale), sums);
  } else {
    const int32_t* start = kType == DType::kQ4_0   ? &s.minus_8
                           : kType == DType::kQ5_0 ? &s.minus_16
                           : kType == DType::kQ8_0 ? &s.minus_128
                                                   : nullptr;
    sums = MulAdd(Dot<kPlanes, 8, kCodeBits>(rows.codes, x, start), Mul(rows.scale[0], scale), sums);
    if constexpr (kHasAdd<kType>) sums = MulAdd(rows.add, Set(s.scaled_sum), sums);
    return sums;
  }
}

template <DType kType, int kPlanes>
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
      const BlockScales* scales = tokens.scales;
      Vec sums[kTokens];
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
          sums[t] = AddBlock<kType, kPlanes>(rows, x + t * 32 * kPlanes, scales[t], sums[t]);
        }
        block += kBlockBytes<kType>;
        x += tokens.stride * 32 * kPlanes;
        scales += tokens.stride;
      }
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        StoreRows(args, tokens.first + t, group * 16 + part * kLanes, sums[t]);
      }
    }
  }
};

template <DType kType>
void MultiplyType(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  if (args.form == InputForm::kInt8) {
    WalkProduct<QuantizedKernel<kType, 1>>(args, group_begin, group_end);
  } else {
    WalkProduct<QuantizedKernel<kType, 2>>(args, group_begin, group_end);
  }
}

}  // namespace

void MultiplyQuantized(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  switch (args.dtype) {
    case DType::kQ8_0:
      return MultiplyType<DType::kQ8_0>(args, group_begin, group_end);
    case DType::kQ4_0:
      return MultiplyType<DType::kQ4_0>(args, group_begin, group_end);
    case DType::kQ4_1:
      return MultiplyType<DType::kQ4_1>(args, group_begin, group_end);
    case DType::kQ5_0:
      return MultiplyType<DType::kQ5_0>(args, group_begin, group_end);
    case DType::kQ5_1:
      return MultiplyType<DType::kQ5_1>(args, group_begin, group_end);
    case DType::kQ4_K32:
      return MultiplyType<DType::kQ4_K32>(args, group_begin, group_end);
    case DType::kQ5_K32:
      return MultiplyType<DType::kQ5_K32>(args, group_begin, group_end);
    case DType::kQ6_K32:
      return MultiplyType<DType::kQ6_K32>(args, group_begin, group_end);
    default:
      return;
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
