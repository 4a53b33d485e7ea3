// How a weight matrix lies in the GPU's memory, and how tensor.h's rows become that.
//
// Floats stay row-major, each row padded with zeros to a multiple of 64 elements:
//
//   kBF16, kF16, kF32 := rows × (pitch elements), pitch = cols rounded up to 64
//   kF8E4M3           := rows × (pitch bytes), the rows filled up to 16; then, aligned to 256, a
//                        float32 scale for each of those rows
//
// Quantized types are cut into tiles of 16 rows × 64 columns in the order in which the lanes of a
// warp feed them to the tensor cores, so that every load is 16 bytes per lane and contiguous over
// the warp. Rows are padded to 16, columns to 64 (with zero factors). Each kind of content is a
// plane of its own, tiles in row-major order, planes one after the other, each aligned to 256:
//
//   tile   := 16 rows × 64 columns = 2 blocks of 32 columns; lane l has rows g = l/4 and g + 8
//   codes  := nibble types: lane × 16 bytes: word 2b+s = block b, step s: nibble i = low element of
//             fragment register a_i, nibble i + 4 = its high element
//             kQ8_0: block b × lane × 16 bytes: word 2s = bytes (a0 low, a1 low, a0 high, a1 high),
//             word 2s+1 = a2, a3 alike; signed
//   high   := kQ5_*: lane × 4 bytes: bit 4(2b+s) + i = high bit of a_i's low element, 16 above it
//             that of its high element
//             kQ6_K32: lane × 8 bytes: word b: bits 2(4s+i).. = two high bits of a_i's low element,
//             16 above them those of its high element
//   factor := g × {row g block 0, row g block 1, row g+8 block 0, row g+8 block 1} × entry
//             entry: Q8_0, Q4_0, Q5_0: f16 d · Q4_1, Q5_1: f16 d, f16 m · K types: f16 d, f16 dmin
//             · Q6_K32: f16 d, int8 sc[2]
//   small  := Q4_K32, Q5_K32: as factor with entry u8 sc, u8 mn
//
//   fragment element: a0 = rows g, a1 = row g+8, first pair of columns; a2, a3 alike, second pair.
//   Columns of step s, lane t = l % 4: 8t + 4s + {0,1 | 2,3} of the block; for kQ6_K32, whose
//   factor changes every 16 columns, 16s + 4t + {0,1 | 2,3}.
//
// Pure; the functions are plain C++ on host memory. WeightRowGranularity of the device is
// kPackRows: a piece of rows is packed at once and copied plane by plane.
//
//   std::vector<PackedPiece> pieces = PackRows(dtype, rows, cols, row, count, rows_data, staging);
//   for (const PackedPiece& p : pieces) copy(w.data + p.offset, staging + p.from, p.bytes);
#ifndef TESSERA_KERNELS_CUDA_PACKED_WEIGHTS_H_
#define TESSERA_KERNELS_CUDA_PACKED_WEIGHTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace tessera::kernels::cuda {

inline constexpr int64_t kPackRows = 16;
inline constexpr int64_t kPackCols = 64;
inline constexpr int kMaxPlanes = 5;

// Bytes that one tile has in each plane; 0 = the type has no such plane. Floats have one plane of
// 16 padded rows × 64 columns.
struct TileBytes {
  int codes = 0;
  int high = 0;
  int factor = 0;
  int small = 0;
  int row_scale = 0;  // not of a tile but of 16 rows of the matrix
};
constexpr TileBytes TileBytesOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {16 * 64 * 4, 0, 0, 0};
    case DType::kF16:
    case DType::kBF16:
      return {16 * 64 * 2, 0, 0, 0};
    case DType::kQ8_0:
      return {1024, 0, 64, 0};
    case DType::kQ4_0:
      return {512, 0, 64, 0};
    case DType::kQ4_1:
      return {512, 0, 128, 0};
    case DType::kQ5_0:
      return {512, 128, 64, 0};
    case DType::kQ5_1:
      return {512, 128, 128, 0};
    case DType::kQ4_K32:
      return {512, 0, 128, 64};
    case DType::kQ5_K32:
      return {512, 128, 128, 64};
    case DType::kQ6_K32:
      return {512, 256, 128, 0};
    case DType::kF8E4M3:
      return {16 * 64, 0, 0, 0, 16 * 4};
  }
  return {};
}

// Where the planes begin in the matrix' memory.
struct PackedLayout {
  int64_t row_tiles = 0;
  int64_t col_tiles = 0;
  int64_t codes = 0;  // byte offsets
  int64_t high = 0;
  int64_t factor = 0;
  int64_t small = 0;
  int64_t row_scale = 0;
  int64_t bytes = 0;  // of the whole matrix
};
constexpr PackedLayout PackedLayoutOf(DType dtype, int64_t rows, int64_t cols) {
  PackedLayout layout;
  layout.row_tiles = (rows + kPackRows - 1) / kPackRows;
  layout.col_tiles = (cols + kPackCols - 1) / kPackCols;
  const TileBytes tile = TileBytesOf(dtype);
  const int64_t tiles = layout.row_tiles * layout.col_tiles;
  const auto behind = [tiles](int64_t begin, int per_tile) {
    return (begin + tiles * per_tile + 255) / 256 * 256;
  };
  layout.high = behind(0, tile.codes);
  layout.factor = behind(layout.high, tile.high);
  layout.small = behind(layout.factor, tile.factor);
  layout.row_scale = behind(layout.small, tile.small);
  layout.bytes = (layout.row_scale + layout.row_tiles * tile.row_scale + 255) / 256 * 256;
  return layout;
}

// Bytes from one row of a kF8E4M3 matrix to the next.
constexpr int64_t F8Pitch(int64_t cols) { return (cols + kPackCols - 1) / kPackCols * kPackCols; }

// Bytes of a matrix in device memory (Device::WeightBytes).
inline size_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  return static_cast<size_t>(PackedLayoutOf(dtype, rows, cols).bytes);
}

// `bytes` at `from` of the staging memory belong at `offset` of the matrix' memory.
struct PackedPiece {
  int64_t offset = 0;
  int64_t from = 0;
  int64_t bytes = 0;
};
struct PackedPieces {
  PackedPiece piece[kMaxPlanes];
  int count = 0;
};

// Bytes of staging that PackRows needs for `count` rows.
size_t PackStagingBytes(DType dtype, int64_t count, int64_t cols);

// Packs rows [row, row + count) of a (rows, cols) matrix from tensor.h's row-major form (host) into
// `staging` (host, PackStagingBytes(dtype, count, cols)). row: a multiple of kPackRows; count too,
// unless row + count == rows. cols: a multiple of the type's block. Rows beyond the matrix' last are
// padded with zeros.
PackedPieces PackRows(DType dtype, int64_t rows, int64_t cols, int64_t row, int64_t count,
                      const std::byte* rows_data, std::byte* staging);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_PACKED_WEIGHTS_H_
