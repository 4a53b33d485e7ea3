// Element types as they are computed with, and views over memory somebody else owns.
//
// Views never own and never check lifetimes: the storage must outlive them. All matrices are
// row-major; a row is contiguous and rows follow each other without padding.
//
//   MatrixView w{data, DType::kQ4_1, /*rows=*/576, /*cols=*/192};
//   size_t bytes = RowBytes(w.dtype, w.cols) * w.rows;
#ifndef TESSERA_KERNELS_TENSOR_H_
#define TESSERA_KERNELS_TENSOR_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tessera::kernels {

// Quantized types are sequences of 32-element blocks along a row, little endian, byte for byte:
//
//   f16  = IEEE half        nibbles = 16 bytes: element j in the low half of byte j (j < 16),
//   bits = 4 bytes: bit j of the                element j + 16 in the high half
//          little-endian word = high bit of element j
//
//   kQ8_0   := f16 d, 32 × int8 q                                w = d * q              34 bytes
//   kQ4_0   := f16 d, nibbles q                                  w = d * (q - 8)        18 bytes
//   kQ4_1   := f16 d, f16 m, nibbles q                           w = d * q + m          20 bytes
//   kQ5_0   := f16 d, bits h, nibbles q                          w = d * (q + 16h - 16) 22 bytes
//   kQ5_1   := f16 d, f16 m, bits h, nibbles q                   w = d * q5 + m         24 bytes
//
// The 256-wide K-quants are repacked at load so that any 32-wide cut is possible, keeping the
// file's own factors so that nothing is rounded twice:
//
//   kQ4_K32 := f16 d, f16 dmin, u8 sc, u8 mn, nibbles q                              22 bytes
//              w = (d*sc) * q - dmin*mn
//   kQ5_K32 := f16 d, f16 dmin, u8 sc, u8 mn, bits h, nibbles q                      26 bytes
//              w = (d*sc) * q5 - dmin*mn
//   kQ6_K32 := f16 d, int8 sc[2], nibbles q, 8 bytes h                               28 bytes
//              w = (d*sc[j/16]) * (q6 - 32)
//              h: bits 2(j%4).. of byte j/4 = the two high bits of element j
//
// kF8E4M3 is scaled by whole rows, so its elements stand alone behind the row's scale:
//
//   row := f32 scale (finite), e4m3 q of every column            w = scale * q
//
// e4m3 has a sign, 4 exponent bits (bias 7) and 3 of mantissa, no infinity; 0x7f and 0xff are no
// numbers and do not occur. (OCP's E4M3; kernels/e4m3.h.)
//
// (Formats after ggml's block definitions; products are taken in float32 in the order written.)
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K32,
  kQ5_K32,
  kQ6_K32,
  kF8E4M3,
};
inline constexpr int kNumDTypes = 12;

// Elements per block: 1 for the floating types and kF8E4M3, 32 for the quantized.
int BlockElements(DType dtype);
// Bytes per block.
size_t BlockBytes(DType dtype);
// Bytes in front of a row's first block: kF8E4M3's scale.
constexpr size_t RowHeaderBytes(DType dtype) { return dtype == DType::kF8E4M3 ? 4 : 0; }
// Bytes of one row of `cols` elements. `cols` must be a multiple of BlockElements.
size_t RowBytes(DType dtype, int64_t cols);
absl::string_view DTypeName(DType dtype);

// A weight matrix as its file has it, row-major in host memory: `rows` outputs by `cols` inputs.
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// A weight matrix in a device's memory, in the layout that the device chose (Device::WriteWeights).
struct WeightMatrix {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_TENSOR_H_
