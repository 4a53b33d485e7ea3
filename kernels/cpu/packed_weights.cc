#include "kernels/cpu/packed_weights.h"

#include <cstring>

#include "kernels/half.h"

namespace tessera::kernels::cpu {
namespace {

// Where things stand in a quantized block: in the file's form (`from`, per row) and in the packed
// one (`to`, per group; the code planes follow the scales).
struct Format {
  int halves = 0;       // f16 per row: d, then m or dmin
  int bytes = 0;        // factors of a byte each, behind the halves
  int nibbles = -1;     // offset in the file's block
  int fifths = -1;      // offset in the file's block
  int sixths = -1;      // offset in the file's block
  int codes = -1;       // offset of 32 int8 in the file's block
  int bias = 0;         // w = d * (code - bias)
};

Format FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return {.halves = 1, .codes = 2, .bias = 128};
    case DType::kQ4_0:
      return {.halves = 1, .nibbles = 2, .bias = 8};
    case DType::kQ4_1:
      return {.halves = 2, .nibbles = 4};
    case DType::kQ5_0:
      return {.halves = 1, .nibbles = 6, .fifths = 2, .bias = 16};
    case DType::kQ5_1:
      return {.halves = 2, .nibbles = 8, .fifths = 4};
    case DType::kQ4_K32:
      return {.halves = 2, .bytes = 2, .nibbles = 6};
    case DType::kQ5_K32:
      return {.halves = 2, .bytes = 2, .nibbles = 10, .fifths = 6};
    case DType::kQ6_K32:
      return {.halves = 1, .bytes = 2, .nibbles = 4, .sixths = 20, .bias = 32};
    default:
      return {};
  }
}

int64_t ScalesBytes(const Format& format) {
  return (2 * format.halves + format.bytes) * kGroupRows;
}

// Byte of element j (column within the block) of row r within a plane of 64-byte quads.
int64_t InQuads(int64_t row, int64_t j) { return j / 4 * 64 + row * 4 + j % 4; }

int GetCode(const Format& format, const uint8_t* block, int64_t row, int64_t j) {
  const uint8_t* planes = block + ScalesBytes(format);
  const int64_t i = InQuads(row, j);
  if (format.codes >= 0) return planes[i];
  int code = planes[i % 256] >> (i < 256 ? 0 : 4) & 15;
  if (format.fifths >= 0) code |= (planes[256 + i % 64] >> (i / 64) & 1) << 4;
  if (format.sixths >= 0) {
    code |= (planes[256 + i / 256 * 64 + i % 64] >> (i / 64 % 4 * 2) & 3) << 4;
  }
  return code;
}

// The file's halves of a byte are elements j and j + 16, which are the packed ones too, so nibbles
// move as they are, a quad of elements (and the quad behind them by 16) at a time.
void PackQuantizedBlock(const Format& format, const uint8_t* from, int64_t row, uint8_t* to) {
  for (int k = 0; k < format.halves; ++k) {
    std::memcpy(to + (k * kGroupRows + row) * 2, from + 2 * k, 2);
  }
  for (int k = 0; k < format.bytes; ++k) {
    to[(2 * format.halves + k) * kGroupRows + row] = from[2 * format.halves + k];
  }
  uint8_t* planes = to + ScalesBytes(format) + row * 4;
  if (format.codes >= 0) {
    for (int q = 0; q < 8; ++q) {
      uint32_t quad;
      std::memcpy(&quad, from + format.codes + 4 * q, 4);
      quad ^= 0x80808080u;
      std::memcpy(planes + 64 * q, &quad, 4);
    }
    return;
  }
  for (int k = 0; k < 4; ++k) std::memcpy(planes + 64 * k, from + format.nibbles + 4 * k, 4);
  if (format.fifths >= 0) {
    const uint8_t* bits = from + format.fifths;
    for (int j = 0; j < 32; ++j) {
      planes[256 + j % 4] |= static_cast<uint8_t>((bits[j / 8] >> (j % 8) & 1) << (j / 4));
    }
  }
  if (format.sixths >= 0) {
    const uint8_t* bits = from + format.sixths;
    for (int j = 0; j < 32; ++j) {
      planes[256 + j / 16 * 64 + j % 4] |=
          static_cast<uint8_t>((bits[j / 4] >> (2 * (j % 4)) & 3) << (j / 4 % 4 * 2));
    }
  }
}

// Place of element j of row r in a packed block of a floating type, in elements.
int64_t FloatPlace(DType dtype, int64_t row, int64_t j) {
  if (dtype == DType::kBF16) return j / 2 * 2 * kGroupRows + row * 2 + j % 2;
  return j * kGroupRows + row;
}

float HalfAt(const uint8_t* block, int64_t index) {
  uint16_t bits;
  std::memcpy(&bits, block + 2 * index, 2);
  return HalfToFloat(bits);
}

// Products in float32 in the order that tensor.h writes them.
void UnpackQuantizedBlock(DType dtype, const uint8_t* block, int64_t row, float* out) {
  const Format format = FormatOf(dtype);
  const float d = HalfAt(block, row);
  const uint8_t* factors = block + 2 * format.halves * kGroupRows;
  float scales[2] = {d, d};
  float add = 0;
  if (format.halves == 2) add = HalfAt(block, kGroupRows + row);
  if (dtype == DType::kQ6_K32) {
    for (int half = 0; half < 2; ++half) {
      scales[half] = d * static_cast<float>(static_cast<int8_t>(factors[half * kGroupRows + row]));
    }
  } else if (format.bytes == 2) {
    scales[0] = scales[1] = d * static_cast<float>(factors[row]);
    add = -(add * static_cast<float>(factors[kGroupRows + row]));
  }
  for (int64_t j = 0; j < 32; ++j) {
    const int code = GetCode(format, block, row, j) - format.bias;
    out[j] = scales[j / 16] * static_cast<float>(code);
    if (format.halves == 2) out[j] += add;
  }
}

}  // namespace

size_t PackedBlockBytes(DType dtype) {
  return BlockBytes(dtype) * (32 / BlockElements(dtype)) * kGroupRows;
}

size_t PackedGroupBytes(DType dtype, int64_t cols) {
  return PackedBlockBytes(dtype) * static_cast<size_t>((cols + 31) / 32);
}

size_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  return PackedGroupBytes(dtype, cols) * static_cast<size_t>((rows + kGroupRows - 1) / kGroupRows);
}

void PackRows(DType dtype, int64_t cols, int64_t row, int64_t count, const void* from,
              std::byte* packed) {
  const size_t row_bytes = RowBytes(dtype, cols);
  const size_t block_bytes = PackedBlockBytes(dtype);
  const size_t group_bytes = PackedGroupBytes(dtype, cols);
  const Format format = FormatOf(dtype);
  const auto* source = static_cast<const uint8_t*>(from);
  for (int64_t first = 0; first < count; first += kGroupRows) {
    auto* group = reinterpret_cast<uint8_t*>(packed) + (row + first) / kGroupRows * group_bytes;
    std::memset(group, 0, group_bytes);
    for (int64_t r = 0; r < kGroupRows && first + r < count; ++r) {
      const uint8_t* file_row = source + (first + r) * row_bytes;
      if (BlockElements(dtype) == 1) {
        const size_t element = BlockBytes(dtype);
        for (int64_t c = 0; c < cols; ++c) {
          uint8_t* block = group + c / 32 * block_bytes;
          std::memcpy(block + FloatPlace(dtype, r, c % 32) * element, file_row + c * element,
                      element);
        }
        continue;
      }
      for (int64_t b = 0; b < cols / 32; ++b) {
        PackQuantizedBlock(format, file_row + b * BlockBytes(dtype), r, group + b * block_bytes);
      }
    }
  }
}

void UnpackRow(DType dtype, const std::byte* packed, int64_t cols, int64_t row, float* out) {
  const size_t block_bytes = PackedBlockBytes(dtype);
  const auto* group = reinterpret_cast<const uint8_t*>(packed) +
                      row / kGroupRows * PackedGroupBytes(dtype, cols);
  const int64_t r = row % kGroupRows;
  if (BlockElements(dtype) == 32) {
    for (int64_t b = 0; b < cols / 32; ++b) {
      UnpackQuantizedBlock(dtype, group + b * block_bytes, r, out + b * 32);
    }
    return;
  }
  for (int64_t c = 0; c < cols; ++c) {
    const uint8_t* block = group + c / 32 * block_bytes;
    const int64_t place = FloatPlace(dtype, r, c % 32);
    if (dtype == DType::kF32) {
      std::memcpy(&out[c], block + 4 * place, 4);
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, block + 2 * place, 2);
    out[c] = dtype == DType::kF16 ? HalfToFloat(bits) : BFloat16ToFloat(bits);
  }
}

}  // namespace tessera::kernels::cpu
