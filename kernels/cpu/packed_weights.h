// Weight matrices in the order that the kernels read them: groups of 16 rows, block by block, each
// block of 32 columns with the scales of its rows beside their codes, so that one vector holds the
// same columns of 16 rows. As many bytes per weight as the file has; rows are filled up to whole
// groups, columns of the floating types to whole blocks, with zeros. One layout for all instruction
// sets.
//
//   packed matrix := group of rows 0..15, group of rows 16..31, ...
//   group         := block of columns 0..31, block of columns 32..63, ...
//   quad q        := columns 4q .. 4q+3 of the block
//   bytes64(q)    := for each of the 16 rows: its 4 elements of quad q
//   nibbles       := 4 × 64 bytes; byte i of the k-th: low half = code of byte i of bytes64(k), high
//                    half = that of bytes64(k + 4)
//   fifths        := 64 bytes; bit q of byte i = the fifth bit of byte i of bytes64(q)
//   sixths        := 2 × 64 bytes; bits 2k.. of byte i of the h-th = bits 4 and 5 of byte i of
//                    bytes64(4h + k)
//   halves, bytes := one f16 or byte for each of the 16 rows
//
//   kF32    block := for each column: 16 float32
//   kF16    block := for each column: 16 f16
//   kBF16   block := for each pair of columns: for each of the 16 rows: its 2 bf16
//   kQ8_0   block := halves d, 8 × bytes64 (q + 128)
//   kQ4_0   block := halves d, nibbles
//   kQ4_1   block := halves d, halves m, nibbles
//   kQ5_0   block := halves d, nibbles, fifths
//   kQ5_1   block := halves d, halves m, nibbles, fifths
//   kQ4_K32 block := halves d, halves dmin, bytes sc, bytes mn, nibbles
//   kQ5_K32 block := halves d, halves dmin, bytes sc, bytes mn, nibbles, fifths
//   kQ6_K32 block := halves d, bytes sc[0], bytes sc[1], nibbles, sixths
//
// (d, m, sc, ... as in kernels/tensor.h.) All functions are pure but for their outputs.
#ifndef TESSERA_KERNELS_CPU_PACKED_WEIGHTS_H_
#define TESSERA_KERNELS_CPU_PACKED_WEIGHTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace tessera::kernels::cpu {

inline constexpr int64_t kGroupRows = 16;

// Bytes of one block of one group of rows.
size_t PackedBlockBytes(DType dtype);
size_t PackedGroupBytes(DType dtype, int64_t cols);
size_t PackedBytes(DType dtype, int64_t rows, int64_t cols);

// Rows [row, row + count) of a matrix into its packed form. `row` is a multiple of kGroupRows; rows
// behind the last one in its group become zeros. from: (count, cols) in tensor.h's form.
void PackRows(DType dtype, int64_t cols, int64_t row, int64_t count, const void* from,
              std::byte* packed);

// Row `row` as floats, bit for bit as reference::DequantizeRow gives them. out: (cols).
void UnpackRow(DType dtype, const std::byte* packed, int64_t cols, int64_t row, float* out);

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_PACKED_WEIGHTS_H_
