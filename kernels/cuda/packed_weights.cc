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
    case DType::kF8E4M3:
      return 1;
    default:
      return 0;
  }
}

// Where a block of nibbles has them, and the bits of its codes above; 0: none above.
struct BlockParts {
  int nibbles = 0;
  int high = 0;
};
constexpr BlockParts BlockPartsOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {2, 0};
    case DType::kQ4_1:
      return {4, 0};
    case DType::kQ5_0:
      return {6, 2};
    case DType::kQ5_1:
      return {8, 4};
    case DType::kQ4_K32:
      return {6, 0};
    case DType::kQ5_K32:
      return {10, 6};
    case DType::kQ6_K32:
      return {4, 20};
    default:
      return {};
  }
}

// Sets bits of a little-endian word.
void SetBits(uint8_t* word, uint32_t bits) {
  uint32_t value;
  std::memcpy(&value, word, sizeof(value));
  value |= bits;
  std::memcpy(word, &value, sizeof(value));
}

// Writes one tile's bytes, plane by plane.
template <DType kType>
class TilePacker {
 public:
  TilePacker(uint8_t* codes, uint8_t* high, uint8_t* factor, uint8_t* small)
      : codes_(codes), high_(high), factor_(factor), small_(small) {}

  // Block b (0 or 1) of row r (of 16). The tile is zeros before.
  void Put(int r, int b, const uint8_t* block) {
    PutFactors(r, b, block);
    constexpr bool kInSixteens = kType == DType::kQ6_K32;
    // Four columns at a time: the low and high elements of one lane's registers a_i and a_i+2.
    for (int four = 0; four < 8; ++four) {
      const int step = kInSixteens ? four / 4 : four % 2;
      const int lane = r % 8 * 4 + (kInSixteens ? four % 4 : four / 2);
      if constexpr (kType == DType::kQ8_0) {
        PutBytes(block + 2 + 4 * four, codes_ + b * 512 + lane * 16 + step * 8 + r / 8);
      } else {
        PutNibbles(block, four, codes_ + lane * 16 + (2 * b + step) * 4, 4 * (r / 8));
      }
      if constexpr (TileBytesOf(kType).high == 128) {
        PutFifthBits(block, four, high_ + lane * 4, 4 * (2 * b + step) + r / 8);
      } else if constexpr (TileBytesOf(kType).high == 256) {
        PutTwoBits(block, four, high_ + lane * 8 + b * 4, 8 * step + 2 * (r / 8));
      }
    }
  }

 private:
  static void PutBytes(const uint8_t* codes, uint8_t* words) {
    for (int k = 0; k < 4; ++k) words[2 * k] = codes[k];
  }

  // The nibbles of columns 4·four .. + 3 in the order 0, 2, 1, 3, one a byte, from bit `shift` on.
  static void PutNibbles(const uint8_t* block, int four, uint8_t* word, int shift) {
    uint32_t pairs;
    std::memcpy(&pairs, block + BlockPartsOf(kType).nibbles + four % 4 * 4, sizeof(pairs));
    const uint32_t nibbles = pairs >> (four / 4 * 4) & 0x0f0f0f0f;
    SetBits(word, ((nibbles & 0xff0000ff) | (nibbles >> 8 & 0xff00) | (nibbles << 8 & 0xff0000))
                      << shift);
  }

  // The fifth bits of columns 0, 2 of the four from bit `shift` on, two apart; 1, 3 sixteen above.
  static void PutFifthBits(const uint8_t* block, int four, uint8_t* word, int shift) {
    const uint32_t bits = block[BlockPartsOf(kType).high + four / 2] >> (four % 2 * 4);
    SetBits(word, ((bits & 0x5) | (bits & 0xa) << 15) << shift);
  }

  // Two upper bits alike, four apart.
  static void PutTwoBits(const uint8_t* block, int four, uint8_t* word, int shift) {
    const uint32_t bits = block[BlockPartsOf(kType).high + four];
    SetBits(word, ((bits & 0x33) | (bits & 0xcc) << 14) << shift);
  }

  void PutFactors(int r, int b, const uint8_t* block) {
    const int entry = r % 8 * 4 + r / 8 * 2 + b;
    constexpr int kEntryBytes = TileBytesOf(kType).factor / 32;
    // Every type begins with what its factor entry holds.
    std::memcpy(factor_ + entry * kEntryBytes, block, kEntryBytes);
    if constexpr (TileBytesOf(kType).small != 0) std::memcpy(small_ + entry * 2, block + 4, 2);
  }

  uint8_t* codes_;
  uint8_t* high_;
  uint8_t* factor_;
  uint8_t* small_;
};

// `count` rows of blocks into the planes of `part` in `target`, which is zeros before.
template <DType kType>
void PackBlocks(const PackedLayout& part, int64_t count, int64_t cols, const uint8_t* rows,
                uint8_t* target) {
  constexpr TileBytes kTile = TileBytesOf(kType);
  const size_t block_bytes = BlockBytes(kType);
  const uint8_t* block = rows;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t b = 0; b < cols / 32; ++b, block += block_bytes) {
      const int64_t t = r / kPackRows * part.col_tiles + b / 2;
      TilePacker<kType>(target + part.codes + t * kTile.codes, target + part.high + t * kTile.high,
                        target + part.factor + t * kTile.factor,
                        target + part.small + t * kTile.small)
          .Put(static_cast<int>(r % kPackRows), static_cast<int>(b % 2), block);
    }
  }
}

void PackBlocksOf(DType dtype, const PackedLayout& part, int64_t count, int64_t cols,
                  const uint8_t* rows, uint8_t* target) {
  switch (dtype) {
    case DType::kQ8_0:
      return PackBlocks<DType::kQ8_0>(part, count, cols, rows, target);
    case DType::kQ4_0:
      return PackBlocks<DType::kQ4_0>(part, count, cols, rows, target);
    case DType::kQ4_1:
      return PackBlocks<DType::kQ4_1>(part, count, cols, rows, target);
    case DType::kQ5_0:
      return PackBlocks<DType::kQ5_0>(part, count, cols, rows, target);
    case DType::kQ5_1:
      return PackBlocks<DType::kQ5_1>(part, count, cols, rows, target);
    case DType::kQ4_K32:
      return PackBlocks<DType::kQ4_K32>(part, count, cols, rows, target);
    case DType::kQ5_K32:
      return PackBlocks<DType::kQ5_K32>(part, count, cols, rows, target);
    case DType::kQ6_K32:
      return PackBlocks<DType::kQ6_K32>(part, count, cols, rows, target);
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
      return;  // have no blocks
  }
}

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
      const uint8_t* from = source + r * row_bytes;
      const size_t header = RowHeaderBytes(dtype);
      std::memcpy(target + part.row_scale + r * static_cast<int64_t>(header), from, header);
      std::memcpy(target + r * pitch, from + header, row_bytes - header);
    }
  } else {
    PackBlocksOf(dtype, part, count, cols, source, target);
  }

  PackedPieces pieces;
  const auto add_of = [&](int64_t before, int64_t how_many, int64_t whole_begin, int64_t part_begin,
                          int each) {
    if (each == 0 || how_many == 0) return;
    pieces.piece[pieces.count++] = {
        .offset = whole_begin + before * each, .from = part_begin, .bytes = how_many * each};
  };
  const auto add = [&](int64_t whole_begin, int64_t part_begin, int per_tile) {
    add_of(tiles_before, tiles, whole_begin, part_begin, per_tile);
  };
  add(whole.codes, part.codes, tile_bytes.codes);
  add(whole.high, part.high, tile_bytes.high);
  add(whole.factor, part.factor, tile_bytes.factor);
  add(whole.small, part.small, tile_bytes.small);
  add_of(row / kPackRows, part.row_tiles, whole.row_scale, part.row_scale, tile_bytes.row_scale);
  return pieces;
}

}  // namespace tessera::kernels::cuda
