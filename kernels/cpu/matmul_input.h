// How a product's input lies in scratch memory, ready for the kernels: prepared once (OpsTable::
// prepare_input), read by every group of rows.
//
// Tokens stand in tiles of kTokenTile; the last tile has fewer. Within a tile of c tokens, by blocks
// of 32 columns (the last is filled up with zeros):
//
//   kFloat32      (blocks, c, 32) float32
//   kBFloat16Pair (2, blocks, c, 32) bfloat16: x rounded, then what that left of it, rounded
//   kInt15        (2, blocks, c, 32) int8 high, low, then scales
//                 x = scale * q, q = 128 * high + low
//   kInt12        (blocks, c, 2, 32) int8 high, low, then scales
//                 x = scale * q, q = 16 * high + low, for codes of 4 bits
//   scales        (blocks, c) BlockScales, then (blocks, c) BlockOffsets
//
// scale = max |x| of the block / the largest q (LimitOf), so q is what rounding to nearest leaves.
// A block with something that is not finite has a scale that is not a number, and so have all
// products that it takes part in.
//
// Codes of 4 bits times 16 are still a byte: code * q = (16 * code) * high + code * low adds up in one
// sum, which a dot product of twice the length computes. Two sums and a shift cost half as much again.
//
// Why two planes: with one, of 8 bits, the default model's most probable token was another one at 3
// of 100 positions, with two as good as never; and a token alone waits for the weights either way.
// Rounding turns a last bit of an input into a whole step of q now and then, and such steps grow
// through the layers of a model. Layouts agree all the same because ranks that share a layer add up
// to the same bits as one rank does (Device::MatMulPartial).
#ifndef TESSERA_KERNELS_CPU_MATMUL_INPUT_H_
#define TESSERA_KERNELS_CPU_MATMUL_INPUT_H_

#include <cstddef>
#include <cstdint>

namespace tessera::kernels::cpu {

enum class InputForm : uint8_t { kFloat32, kBFloat16Pair, kInt15, kInt12 };
inline constexpr int kNumInputForms = 4;

inline constexpr int64_t kTokenTile = 16;

// Of one token's block.
struct BlockScales {
  float scale;
  float scaled_sum;  // scale * sum of q
};

// What the sum of unsigned codes times q must be corrected by where the codes stand an offset too
// high: -offset * sum of q.
struct BlockOffsets {
  int32_t minus_8;
  int32_t minus_16;
  int32_t minus_128;
  int32_t minus_32_low;   // of columns 0..15
  int32_t minus_32_high;  // of columns 16..31
  int32_t unused;
};

// static: this header is compiled for several instruction sets, and their copies must not merge.
#define TESSERA_STATIC_INLINE static inline __attribute__((always_inline))

TESSERA_STATIC_INLINE int64_t BlocksOf(int64_t cols) { return (cols + 31) / 32; }

TESSERA_STATIC_INLINE bool IsIntegers(InputForm form) {
  return form == InputForm::kInt15 || form == InputForm::kInt12;
}
// q = RadixOf * high + low, the largest of them LimitOf; of integers.
TESSERA_STATIC_INLINE constexpr int RadixOf(InputForm form) {
  return form == InputForm::kInt12 ? 16 : 128;
}
TESSERA_STATIC_INLINE constexpr int LimitOf(InputForm form) { return 127 * RadixOf(form); }

// Bytes of one token's block in one plane (kInt12: both stand in one), planes, and bytes of its scales.
TESSERA_STATIC_INLINE int64_t PlaneBytes(InputForm form) {
  return form == InputForm::kFloat32 ? 128 : form == InputForm::kInt15 ? 32 : 64;
}
TESSERA_STATIC_INLINE int64_t PlanesOf(InputForm form) {
  return form == InputForm::kFloat32 || form == InputForm::kInt12 ? 1 : 2;
}
TESSERA_STATIC_INLINE int64_t ScaleBytes(InputForm form) {
  return IsIntegers(form) ? int64_t{sizeof(BlockScales) + sizeof(BlockOffsets)} : 0;
}

// Bytes of n prepared tokens; the tile that begins at token t begins at InputBytes(form, cols, t).
TESSERA_STATIC_INLINE int64_t InputBytes(InputForm form, int64_t cols, int64_t n) {
  return n * BlocksOf(cols) * (PlanesOf(form) * PlaneBytes(form) + ScaleBytes(form));
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_MATMUL_INPUT_H_
