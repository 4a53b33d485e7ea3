// Weights to floats: 32 elements of any DType as kBlockVecs vectors, in order.
//
// The floats equal reference::DequantizeRow bit for bit in every instruction set (tests say so),
// so it does not matter whether a product dequantizes in registers or through memory.
//
//   Vec w[kBlockVecs];
//   DecodeBlock<DType::kQ4_1>(row + b * kBytesPer32<DType::kQ4_1>, w);
#ifndef TESSERA_KERNELS_CPU_BLOCKS_H_
#define TESSERA_KERNELS_CPU_BLOCKS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kBlockVecs = 32 / kLanes;

// Bytes of 32 elements: one block, or 32 floats. The sizes are tensor.h's.
template <DType kType>
constexpr size_t kBytesPer32 = 0;
template <>
constexpr size_t kBytesPer32<DType::kF32> = 128;
template <>
constexpr size_t kBytesPer32<DType::kF16> = 64;
template <>
constexpr size_t kBytesPer32<DType::kBF16> = 64;
template <>
constexpr size_t kBytesPer32<DType::kQ8_0> = 34;
template <>
constexpr size_t kBytesPer32<DType::kQ4_0> = 18;
template <>
constexpr size_t kBytesPer32<DType::kQ4_1> = 20;
template <>
constexpr size_t kBytesPer32<DType::kQ5_0> = 22;
template <>
constexpr size_t kBytesPer32<DType::kQ5_1> = 24;
template <>
constexpr size_t kBytesPer32<DType::kQ4_K32> = 22;
template <>
constexpr size_t kBytesPer32<DType::kQ5_K32> = 26;
template <>
constexpr size_t kBytesPer32<DType::kQ6_K32> = 28;

template <DType kType>
constexpr bool kIsFloat = kType == DType::kF32 || kType == DType::kF16 || kType == DType::kBF16;

// Floats are loaded one vector at a time.
template <DType kType>
TESSERA_INLINE Vec LoadFloats(const uint8_t* p) {
  if constexpr (kType == DType::kF32) return Load(reinterpret_cast<const float*>(p));
  if constexpr (kType == DType::kF16) return LoadHalf(reinterpret_cast<const uint16_t*>(p));
  if constexpr (kType == DType::kBF16) return LoadBFloat16(reinterpret_cast<const uint16_t*>(p));
}

// The last `count` < kLanes floats of a row: zeros behind, nothing read behind.
template <DType kType>
TESSERA_INLINE Vec LoadLastFloats(const uint8_t* p, int count) {
  if constexpr (kType == DType::kF32) {
    return LoadPartial(reinterpret_cast<const float*>(p), count);
  } else {
    uint16_t padded[kLanes] = {};
    for (int i = 0; i < count; ++i) __builtin_memcpy(&padded[i], p + 2 * i, 2);
    return LoadFloats<kType>(reinterpret_cast<const uint8_t*>(padded));
  }
}

// Specialized for the quantized types by the instruction set's file below.
template <DType kType>
TESSERA_INLINE void DecodeBlock(const uint8_t* p, Vec* w) {
  static_assert(kIsFloat<kType>);
  constexpr size_t kVecBytes = kBytesPer32<kType> / kBlockVecs;
  for (int v = 0; v < kBlockVecs; ++v) w[v] = LoadFloats<kType>(p + v * kVecBytes);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#if defined(TESSERA_SIMD_AVX512)
#include "kernels/cpu/blocks_avx512.h"
#elif defined(TESSERA_SIMD_AVX2)
#include "kernels/cpu/blocks_avx2.h"
#else
#include "kernels/cpu/blocks_scalar.h"
#endif

namespace tessera::kernels::cpu::TESSERA_ISA {

// visit.template operator()<kType>() for the DType at hand.
template <typename Visitor>
TESSERA_INLINE void VisitDType(DType dtype, Visitor visit) {
  switch (dtype) {
    case DType::kF32:
      return visit.template operator()<DType::kF32>();
    case DType::kF16:
      return visit.template operator()<DType::kF16>();
    case DType::kBF16:
      return visit.template operator()<DType::kBF16>();
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
  }
}

// One row of `cols` weights as floats.
template <DType kType>
void DecodeRow(const uint8_t* row, int64_t cols, float* out) {
  const int64_t blocks = cols / 32;
  for (int64_t b = 0; b < blocks; ++b) {
    Vec w[kBlockVecs];
    DecodeBlock<kType>(row + b * kBytesPer32<kType>, w);
    for (int v = 0; v < kBlockVecs; ++v) Store(out + b * 32 + v * kLanes, w[v]);
  }
  if constexpr (kIsFloat<kType>) {
    constexpr size_t kElementBytes = kBytesPer32<kType> / 32;
    int64_t i = blocks * 32;
    for (; i + kLanes <= cols; i += kLanes) {
      Store(out + i, LoadFloats<kType>(row + i * kElementBytes));
    }
    const int rest = static_cast<int>(cols - i);
    if (rest) StorePartial(out + i, LoadLastFloats<kType>(row + i * kElementBytes, rest), rest);
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_BLOCKS_H_
