#include "kernels/cuda/packed_weights.h"

#include <algorithm>
#include <cstring>

namespace tessera::kernels::cuda {
namespace {

// Bytes of one element of the types that stay row-major; 0 for the quantized.
int FloatBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    default:
      return 0;
  }
}

// The code of element j of a block: what tensor.h calls q, q5 or q6 before any offset. Signed for
// kQ8_0.
int CodeOf(DType dtype, const uint8_t* block, int j) {
  const auto nibble = [j](const uint8_t* p) { return j < 16 ? p[j] & 15 : p[j - 16] >> 4; };
  const auto bit = [j](const uint8_t* p) { return p[j / 8] >> (j % 8) & 1; };
  switch (dtype) {
    case DType::kQ8_0:
      return static_cast<int8_t>(block[2 + j]);
    case DType::kQ4_0:
      return nibble(block + 2);
    case DType::kQ4_1:
      return nibble(block + 4);
    case DType::kQ5_0:
      return nibble(block + 6) + 16 * bit(block + 2);
    case DType::kQ5_1:
      return nibble(block + 8) + 16 * bit(block + 4);
    case DType::kQ4_K32:
      return nibble(block + 6);
    case DType::kQ5_K32:
      return nibble(block + 10) + 16 * bit(block + 6);
    case DType::kQ6_K32:
      return nibble(block + 4) + 16 * (block[20 + j / 4] >> (2 * (j % 4)) & 3);
    default:
      return 0;
  }
}

// Writes one tile's bytes, plane by plane.
class TilePacker {
 public:
  TilePacker(DType dtype, uint8_t* codes, uint8_t* high, uint8_t* factor, uint8_t* small)
      : dtype_(dtype), codes_(codes), high_(high), factor_(factor), small_(small) {}

  // Block b (0 or 1) of row r (of 16). The tile is zeros before.
  void Put(int r, int b, const uint8_t* block) {
    PutFactors(r, b, block);
    const bool in_sixteens = dtype_ == DType::kQ6_K32;
    for (int j = 0; j < 32; ++j) {
      const int step = in_sixteens ? j / 16 : j % 8 / 4;
      const int lane = r % 8 * 4 + (in_sixteens ? j % 16 / 4 : j / 8);
      const int reg = r / 8 + j % 4 / 2 * 2;  // of the fragment
      const int is_high = j % 2;              // of the register's two elements
      PutCode(lane, b, step, reg, is_high, CodeOf(dtype_, block, j));
    }
  }

 private:
  void PutCode(int lane, int b, int step, int reg, int is_high, int code) {
    if (dtype_ == DType::kQ8_0) {
      codes_[b * 512 + lane * 16 + (2 * step + reg / 2) * 4 + reg % 2 + 2 * is_high] =
          static_cast<uint8_t>(code);
      return;
    }
    const int nibble = reg + 4 * is_high;
    codes_[lane * 16 + (2 * b + step) * 4 + nibble / 2] |=
        static_cast<uint8_t>((code & 15) << (nibble % 2 * 4));
    const int above = code >> 4;
    if (TileBytesOf(dtype_).high == 128) {
      SetBits(high_ + lane * 4, 4 * (2 * b + step) + reg + 16 * is_high, above);
    } else if (TileBytesOf(dtype_).high == 256) {
      SetBits(high_ + lane * 8 + b * 4, 2 * (4 * step + reg) + 16 * is_high, above);
    }
  }

  static void SetBits(uint8_t* bytes, int bit, int value) {
    bytes[bit / 8] |= static_cast<uint8_t>(value << (bit % 8));
  }

  void PutFactors(int r, int b, const uint8_t* block) {
    const int entry = r % 8 * 4 + r / 8 * 2 + b;
    const int entry_bytes = TileBytesOf(dtype_).factor / 32;
    // Every type begins with what its factor entry holds.
    std::memcpy(factor_ + entry * entry_bytes, block, entry_bytes);
    if (TileBytesOf(dtype_).small != 0) std::memcpy(small_ + entry * 2, block + 4, 2);
  }

  DType dtype_;
  uint8_t* codes_;
  uint8_t* high_;
  uint8_t* factor_;
  uint8_t* small_;
};

}  // namespace

size_t PackStagingBytes(DType dtype, int64_t count, int64_t cols) {
  return PackedBytes(dtype, count, cols);
}

PackedPieces PackRows(DType dtype, int64_t rows, int64_t cols, int64_t row, int64_t count,
                      const std::byte* rows_data, std::byte* staging) {
  const PackedLayout whole = PackedLayoutOf(dtype, rows, cols);
  const PackedLayout part = PackedLayoutOf(dtype, count, cols);
  const TileBytes tile_bytes = TileBytesOf(dtype);
  const int64_t tiles = part.row_tiles * part.col_tiles;
  const int64_t tiles_before = row / kPackRows * whole.col_tiles;
  std::memset(staging, 0, static_cast<size_t>(part.bytes));

  const size_t row_bytes = RowBytes(dtype, cols);
  const auto* source = reinterpret_cast<const uint8_t*>(rows_data);
  auto* target = reinterpret_cast<uint8_t*>(staging);
  if (const int element = FloatBytes(dtype); element != 0) {
    const int64_t pitch = whole.col_tiles * kPackCols * element;
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(target + r * pitch, source + r * row_bytes, row_bytes);
    }
  } else {
    const size_t block_bytes = BlockBytes(dtype);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t b = 0; b < cols / 32; ++b) {
        const int64_t t = r / kPackRows * part.col_tiles + b / 2;
        TilePacker tile(dtype, target + part.codes + t * tile_bytes.codes,
                        target + part.high + t * tile_bytes.high,
                        target + part.factor + t * tile_bytes.factor,
                        target + part.small + t * tile_bytes.small);
        tile.Put(static_cast<int>(r % kPackRows), static_cast<int>(b % 2),
                 source + r * row_bytes + b * block_bytes);
      }
    }
  }

  PackedPieces pieces;
  const auto add = [&](int64_t whole_begin, int64_t part_begin, int per_tile) {
    if (per_tile == 0 || tiles == 0) return;
    pieces.piece[pieces.count++] = {.offset = whole_begin + tiles_before * per_tile,
                                    .from = part_begin,
                                    .bytes = tiles * per_tile};
  };
  add(whole.codes, part.codes, tile_bytes.codes);
  add(whole.high, part.high, tile_bytes.high);
  add(whole.factor, part.factor, tile_bytes.factor);
  add(whole.small, part.small, tile_bytes.small);
  return pieces;
}

}  // namespace tessera::kernels::cuda
