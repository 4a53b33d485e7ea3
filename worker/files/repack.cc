#include "worker/files/repack.h"

#include <algorithm>
#include <cstring>

#include "kernels/half.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {
namespace {

using kernels::BFloat16ToFloat;
using kernels::HalfToFloat;

constexpr int kBlock = 32;

uint16_t LoadU16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

uint32_t LoadU32(const uint8_t* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

struct ScaleAndMinimum {
  uint8_t scale;
  uint8_t minimum;
};

// Of block i of a Q4_K or Q5_K super-block; s: its 12 packed bytes.
ScaleAndMinimum UnpackScale(const uint8_t* s, int i) {
  if (i < 4) return {static_cast<uint8_t>(s[i] & 63), static_cast<uint8_t>(s[i + 4] & 63)};
  return {static_cast<uint8_t>((s[i + 4] & 15) | (s[i - 4] >> 6) << 4),
          static_cast<uint8_t>((s[i + 4] >> 4) | (s[i] >> 6) << 4)};
}

// Low halves of bytes j and j + 16 of `q` (or the high halves), as our nibbles want them.
void PackNibbles(const uint8_t* q, bool high, uint8_t* out) {
  const int shift = high ? 4 : 0;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<uint8_t>(((q[j] >> shift) & 15) | ((q[j + 16] >> shift) & 15) << 4);
  }
}

// kQ4_K32 := d, dmin, sc, mn, nibbles
void RepackQ4K(const uint8_t* super, int i, uint8_t* out) {
  const ScaleAndMinimum factors = UnpackScale(super + 4, i);
  std::memcpy(out, super, 4);
  out[4] = factors.scale;
  out[5] = factors.minimum;
  PackNibbles(super + 16 + int64_t{32} * (i / 2), i % 2 != 0, out + 6);
}

// kQ5_K32 := d, dmin, sc, mn, bits, nibbles
void RepackQ5K(const uint8_t* super, int i, uint8_t* out) {
  const ScaleAndMinimum factors = UnpackScale(super + 4, i);
  std::memcpy(out, super, 4);
  out[4] = factors.scale;
  out[5] = factors.minimum;
  uint32_t bits = 0;
  for (int l = 0; l < kBlock; ++l) bits |= ((super[16 + l] >> i) & 1u) << l;
  std::memcpy(out + 6, &bits, sizeof(bits));
  PackNibbles(super + 48 + int64_t{32} * (i / 2), i % 2 != 0, out + 10);
}

// kQ6_K32 := d, sc[2], nibbles, 8 bytes of two high bits each
void RepackQ6K(const uint8_t* super, int i, uint8_t* out) {
  const int half = i / 4;
  const int k = i % 4;
  const uint8_t* high = super + 128 + int64_t{32} * half;
  std::memcpy(out, super + 208, 2);
  std::memcpy(out + 2, super + 192 + int64_t{2} * i, 2);
  PackNibbles(super + int64_t{64} * half + int64_t{32} * (k % 2), k >= 2, out + 4);
  for (int byte = 0; byte < 8; ++byte) {
    uint8_t packed = 0;
    for (int j = 0; j < 4; ++j) {
      packed |= static_cast<uint8_t>(((high[4 * byte + j] >> (2 * k)) & 3) << (2 * j));
    }
    out[20 + byte] = packed;
  }
}

int Nibble(const uint8_t* q, int j) { return j < 16 ? q[j] & 15 : q[j - 16] >> 4; }

// One block of a 32-wide type, as its grammar in kernels/tensor.h says.
void DequantizeBlock(kernels::DType dtype, const uint8_t* b, float* out) {
  using kernels::DType;
  const float d = HalfToFloat(LoadU16(b));
  switch (dtype) {
    case DType::kQ8_0:
      for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(b[2 + j]));
      return;
    case DType::kQ4_0:
      for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(Nibble(b + 2, j) - 8);
      return;
    case DType::kQ4_1: {
      const float m = HalfToFloat(LoadU16(b + 2));
      for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(Nibble(b + 4, j)) + m;
      return;
    }
    case DType::kQ5_0: {
      const uint32_t h = LoadU32(b + 2);
      for (int j = 0; j < kBlock; ++j) {
        const int q = Nibble(b + 6, j) + 16 * static_cast<int>((h >> j) & 1);
        out[j] = d * static_cast<float>(q - 16);
      }
      return;
    }
    case DType::kQ5_1: {
      const float m = HalfToFloat(LoadU16(b + 2));
      const uint32_t h = LoadU32(b + 4);
      for (int j = 0; j < kBlock; ++j) {
        const int q = Nibble(b + 8, j) + 16 * static_cast<int>((h >> j) & 1);
        out[j] = d * static_cast<float>(q) + m;
      }
      return;
    }
    case DType::kQ4_K32:
    case DType::kQ5_K32: {
      const bool five = dtype == DType::kQ5_K32;
      const float scale = d * static_cast<float>(b[4]);
      const float minimum = HalfToFloat(LoadU16(b + 2)) * static_cast<float>(b[5]);
      const uint32_t h = five ? LoadU32(b + 6) : 0;
      const uint8_t* nibbles = b + (five ? 10 : 6);
      for (int j = 0; j < kBlock; ++j) {
        const int q = Nibble(nibbles, j) + 16 * static_cast<int>((h >> j) & 1);
        out[j] = scale * static_cast<float>(q) - minimum;
      }
      return;
    }
    case DType::kQ6_K32:
      for (int j = 0; j < kBlock; ++j) {
        const float scale = d * static_cast<float>(static_cast<int8_t>(b[2 + j / 16]));
        const int q = Nibble(b + 4, j) + 16 * ((b[20 + j / 4] >> (2 * (j % 4))) & 3);
        out[j] = scale * static_cast<float>(q - 32);
      }
      return;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
      return;  // not block types; DequantizeRow handles them
  }
}

}  // namespace

void RepackRow(v1::DataType type, const uint8_t* row, int64_t begin, int64_t end, uint8_t* out) {
  const StorageBlock block = StorageBlockOf(type);
  if (block.elements <= kBlock) {
    const int64_t first = begin / block.elements * block.bytes;
    const int64_t last = end / block.elements * block.bytes;
    std::memcpy(out, row + first, static_cast<size_t>(last - first));
    return;
  }
  const auto repack = type == v1::DATA_TYPE_Q4_K ? RepackQ4K : type == v1::DATA_TYPE_Q5_K ? RepackQ5K : RepackQ6K;
  const size_t out_bytes = kernels::BlockBytes(RepackedType(type));
  for (int64_t element = begin; element < end; element += kBlock, out += out_bytes) {
    const int64_t super = element / block.elements;
    repack(row + super * block.bytes, static_cast<int>(element % block.elements) / kBlock, out);
  }
}

void DequantizeRow(v1::DataType type, const uint8_t* row, int64_t begin, int64_t end, float* out) {
  switch (type) {
    case v1::DATA_TYPE_F32:
      std::memcpy(out, row + begin * 4, static_cast<size_t>(end - begin) * 4);
      return;
    case v1::DATA_TYPE_F16:
      for (int64_t i = begin; i < end; ++i) *out++ = HalfToFloat(LoadU16(row + 2 * i));
      return;
    case v1::DATA_TYPE_BF16:
      for (int64_t i = begin; i < end; ++i) *out++ = BFloat16ToFloat(LoadU16(row + 2 * i));
      return;
    default:
      break;
  }
  uint8_t packed[64];
  float values[kBlock];
  while (begin < end) {
    const int64_t block_begin = begin / kBlock * kBlock;
    RepackRow(type, row, block_begin, block_begin + kBlock, packed);
    DequantizeBlock(RepackedType(type), packed, values);
    const int64_t stop = std::min(end, block_begin + kBlock);
    out = std::copy(values + (begin - block_begin), values + (stop - block_begin), out);
    begin = stop;
  }
}

}  // namespace tessera::worker
