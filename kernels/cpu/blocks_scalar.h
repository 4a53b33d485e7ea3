// blocks.h for any machine: integers in a loop, floats in vectors.
#ifndef TESSERA_KERNELS_CPU_BLOCKS_SCALAR_H_
#define TESSERA_KERNELS_CPU_BLOCKS_SCALAR_H_

#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/half.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

TESSERA_INLINE float LoadScale(const uint8_t* p) {
  return HalfToFloat(static_cast<uint16_t>(p[0] | p[1] << 8));
}

TESSERA_INLINE void UnpackNibbles(const uint8_t* p, int bias, float* q) {
  for (int j = 0; j < 16; ++j) {
    q[j] = static_cast<float>((p[j] & 15) - bias);
    q[j + 16] = static_cast<float>((p[j] >> 4) - bias);
  }
}

TESSERA_INLINE void AddFifthBits(const uint8_t* p, float* q) {
  for (int j = 0; j < 32; ++j) q[j] += static_cast<float>((p[j / 8] >> (j % 8) & 1) * 16);
}

// w = scale * q, or scale * q + offset: two roundings, as the reference has them.
TESSERA_INLINE void ScaleBlock(const float* q, float scale, Vec* w) {
  for (int v = 0; v < kBlockVecs; ++v) w[v] = Mul(Set(scale), Load(q + v * kLanes));
}
TESSERA_INLINE void ScaleBlock(const float* q, float scale, float offset, Vec* w) {
  for (int v = 0; v < kBlockVecs; ++v) {
    w[v] = Add(Mul(Set(scale), Load(q + v * kLanes)), Set(offset));
  }
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ8_0>(const uint8_t* p, Vec* w) {
  float q[32];
  for (int j = 0; j < 32; ++j) q[j] = static_cast<float>(static_cast<int8_t>(p[2 + j]));
  ScaleBlock(q, LoadScale(p), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_0>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 2, 8, q);
  ScaleBlock(q, LoadScale(p), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_1>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 4, 0, q);
  ScaleBlock(q, LoadScale(p), LoadScale(p + 2), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_0>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 6, 16, q);
  AddFifthBits(p + 2, q);
  ScaleBlock(q, LoadScale(p), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_1>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 8, 0, q);
  AddFifthBits(p + 4, q);
  ScaleBlock(q, LoadScale(p), LoadScale(p + 2), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ4_K32>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 6, 0, q);
  ScaleBlock(q, LoadScale(p) * static_cast<float>(p[4]),
             -(LoadScale(p + 2) * static_cast<float>(p[5])), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ5_K32>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 10, 0, q);
  AddFifthBits(p + 6, q);
  ScaleBlock(q, LoadScale(p) * static_cast<float>(p[4]),
             -(LoadScale(p + 2) * static_cast<float>(p[5])), w);
}

template <>
TESSERA_INLINE void DecodeBlock<DType::kQ6_K32>(const uint8_t* p, Vec* w) {
  float q[32];
  UnpackNibbles(p + 4, 32, q);
  for (int j = 0; j < 32; ++j) q[j] += static_cast<float>((p[20 + j / 4] >> (j % 4 * 2) & 3) * 16);
  const float scale = LoadScale(p);
  for (int v = 0; v < kBlockVecs; ++v) {
    const int half = v / (kBlockVecs / 2);
    const float half_scale = scale * static_cast<float>(static_cast<int8_t>(p[2 + half]));
    w[v] = Mul(Set(half_scale), Load(q + v * kLanes));
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_BLOCKS_SCALAR_H_
