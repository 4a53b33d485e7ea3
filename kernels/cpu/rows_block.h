// The blocks of packed quantized matrices in registers: codes as bytes, scales as floats. What stands
// where is packed_weights.h's grammar.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_ROWS_BLOCK_H_
#define TESSERA_KERNELS_CPU_ROWS_BLOCK_H_

#include <cstdint>

#include "kernels/cpu/codes.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// Bytes of a packed block.
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

// visit.template operator()<kType>() for the quantized type at hand; nothing for a floating one.
template <typename Visitor>
TESSERA_INLINE void VisitQuantized(DType dtype, const Visitor& visit) {
  switch (dtype) {
    case DType::kQ8_0:
      return visit.template operator()<DType::kQ8_0>();
    case DType::kQ4_0:
      return visit.template operator()<DType::kQ4_0>();
    case DType::kQ4_1:
      return visit.template operator()<DType::kQ4_1>();
    case DType::kQ5_0:
      return visit.template operator()<DType::kQ5_0>();
    case DType::kQ5_1:
      return visit.template operator()<DType::kQ5_1>();
    case DType::kQ4_K32:
      return visit.template operator()<DType::kQ4_K32>();
    case DType::kQ5_K32:
      return visit.template operator()<DType::kQ5_K32>();
    case DType::kQ6_K32:
      return visit.template operator()<DType::kQ6_K32>();
    default:
      return;
  }
}

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

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ROWS_BLOCK_H_
