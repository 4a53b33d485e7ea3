// How a product's input lies in scratch memory, ready for the kernels: prepared once (OpsTable::
// prepare_input), read by every group of rows.
//
// Tokens stand in tiles of kTokenTile; the last tile has fewer. Within a tile of c tokens, by blocks
// of 32 columns (the last is filled up with zeros):
//
//   kFloat32      (blocks, c, 32) float32
//   kBFloat16     (blocks, c, 32) bfloat16: x rounded to nearest
//   kBFloat16Pair (2, blocks, c, 32) bfloat16: x rounded, then what that left of it, rounded
//   kInt8         (2, blocks, c, 32) int8 high, low
//                 (blocks, 2, c) float32 scale, scale * sum of (high + low / 128)
//                 (2, blocks, kNumOffsets, c) int32 corrections of high, low (Offset)
//                 (blocks) uint32, bit t: whether the tile's token t is peaked in that block
//
// Integers: x = scale * (high + low / 128), scale = max |x| of the block / 127, rounded to nearest.
// low counts, and is computed, only where the block is peaked; elsewhere high is all. A block with
// something that is not finite has a scale that is not a number, and so have all products that it
// takes part in.
//
// Peaked is a block in which one value dwarfs the others, so that 8 bits leave little of them: the
// root of the mean square of high is below 127 / 4. In the default model one block in five is.
// With 8 bits everywhere its most probable token was another one at 25 of 804 positions, with a low
// plane everywhere at 2, like this at 7; a low plane costs as much as the high one. Whether a block
// is peaked says the block alone, so it is for every batch and every cut of a model that falls
// between blocks.
//
// Rounding turns a last bit of an input into a whole step of q now and then, and such steps grow
// through the layers of a model. Layouts agree all the same because ranks that share a layer add up
// to the same bits as one rank does (Device::MatMulPartial).
#ifndef TESSERA_KERNELS_CPU_MATMUL_INPUT_H_
#define TESSERA_KERNELS_CPU_MATMUL_INPUT_H_

#include <cstddef>
#include <cstdint>

namespace tessera::kernels::cpu {

enum class InputForm : uint8_t { kFloat32, kBFloat16, kBFloat16Pair, kInt8 };
inline constexpr int kNumInputForms = 4;

inline constexpr int64_t kTokenTile = 16;

// What the sum of unsigned codes times one plane must be corrected by where the codes stand an offset
// too high: -offset * sum of the plane. The last two of columns 0..15 and 16..31.
enum Offset { kMinus8, kMinus16, kMinus128, kMinus32Low, kMinus32High, kNumOffsets };

// static: this header is compiled for several instruction sets, and their copies must not merge.
#define TESSERA_STATIC_INLINE static inline __attribute__((always_inline))

TESSERA_STATIC_INLINE int64_t BlocksOf(int64_t cols) { return (cols + 31) / 32; }

TESSERA_STATIC_INLINE int64_t TilesOf(int64_t n) { return (n + kTokenTile - 1) / kTokenTile; }

// Bytes of one token's block in one plane, and planes.
TESSERA_STATIC_INLINE int64_t PlaneBytes(InputForm form) {
  return form == InputForm::kFloat32 ? 128 : form == InputForm::kInt8 ? 32 : 64;
}
TESSERA_STATIC_INLINE int64_t PlanesOf(InputForm form) {
  return form == InputForm::kFloat32 || form == InputForm::kBFloat16 ? 1 : 2;
}

// Bytes of n prepared tokens; the tile that begins at token t begins at InputBytes(form, cols, t).
TESSERA_STATIC_INLINE int64_t InputBytes(InputForm form, int64_t cols, int64_t n) {
  const bool integers = form == InputForm::kInt8;
  const int64_t scales = integers ? (2 + 2 * kNumOffsets) * 4 : 0;
  const int64_t of_tile = integers ? sizeof(uint32_t) : 0;
  return BlocksOf(cols) *
         (n * (PlanesOf(form) * PlaneBytes(form) + scales) + TilesOf(n) * of_tile);
}

// The parts of a tile of `tokens` tokens of kInt8.
struct Int8Tile {
  int8_t* high;
  int8_t* low;
  float* scales;
  int32_t* high_offsets;
  int32_t* low_offsets;
  uint32_t* peaked;
};
TESSERA_STATIC_INLINE Int8Tile Int8TileAt(uint8_t* tile, int64_t cols, int64_t tokens) {
  const int64_t count = BlocksOf(cols) * tokens;
  auto* high = reinterpret_cast<int8_t*>(tile);
  auto* scales = reinterpret_cast<float*>(high + 64 * count);
  auto* offsets = reinterpret_cast<int32_t*>(scales + 2 * count);
  return {high,
          high + 32 * count,
          scales,
          offsets,
          offsets + kNumOffsets * count,
          reinterpret_cast<uint32_t*>(offsets + 2 * count * kNumOffsets)};
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_MATMUL_INPUT_H_
