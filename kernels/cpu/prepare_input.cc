// Inputs of products into the forms of matmul_input.h.
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/quantize_blocks.h"
#include "kernels/half.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kVecs = 32 / kLanes;

// `count` columns, at most 32, filled up with zeros.
TESSERA_INLINE const float* WholeBlock(const float* x, int64_t count, float* room) {
  if (count >= 32) return x;
  for (int64_t j = 0; j < 32; ++j) room[j] = j < count ? x[j] : 0.0f;
  return room;
}

// As many blocks at once as a vector has lanes: of tokens side by side, or of a token left over.
void PrepareIntegers(const float* x, int64_t cols, int64_t tokens, const InputPart& part,
                     uint8_t* tile) {
  const Int8Tile to = Int8TileAt(tile, cols, tokens);
  const auto at = [&](int64_t block, int64_t token) __attribute__((always_inline)) {
    const int64_t values = (block * tokens + token) * 32;
    const int64_t offsets = block * kNumOffsets * tokens + token;
    return QuantizedBlocks{.high = to.high + values,
                           .low = to.low + values,
                           .scale = to.scales + block * 2 * tokens + token,
                           .high_offsets = to.high_offsets + offsets,
                           .low_offsets = to.low_offsets + offsets,
                           .tokens = tokens};
  };
  for (int64_t b = part.block_begin; b < part.block_end; ++b) to.peaked[b] = 0;
  const int64_t whole = cols / 32 < part.block_end ? cols / 32 : part.block_end;
  const int64_t side_by_side = tokens / kLanes * kLanes;
  for (int64_t b = part.block_begin; b < whole; ++b) {
    for (int64_t t = 0; t < side_by_side; t += kLanes) {
      to.peaked[b] |=
          QuantizeBlocks<Side::kTokens>(x + t * cols + b * 32, cols, kLanes, at(b, t)) << t;
    }
  }
  const auto quantize_some = [&](const float* from, int64_t block, int count, int64_t t)
      __attribute__((always_inline)) {
    const uint32_t peaked = QuantizeBlocks<Side::kBlocks>(from, 32, count, at(block, t));
    for (int i = 0; i < count; ++i) to.peaked[block + i] |= (peaked >> i & 1u) << t;
  };
  for (int64_t t = side_by_side; t < tokens; ++t) {
    for (int64_t b = part.block_begin; b < whole; b += kLanes) {
      const int count = static_cast<int>(whole - b < kLanes ? whole - b : kLanes);
      quantize_some(x + t * cols + b * 32, b, count, t);
    }
  }
  if (whole == part.block_end) return;
  for (int64_t t = 0; t < tokens; ++t) {  // the last block, of fewer columns
    float room[32];
    quantize_some(WholeBlock(x + t * cols + whole * 32, cols - whole * 32, room), whole, 1, t);
  }
}

template <InputForm kForm>
void PrepareFloats(const float* x, int64_t cols, int64_t tokens, const InputPart& part,
                   uint8_t* tile) {
  [[maybe_unused]] const int64_t plane = BlocksOf(cols) * tokens * PlaneBytes(kForm);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t b = part.block_begin; b < part.block_end; ++b) {
      float room[32];
      const float* from = WholeBlock(x + t * cols + b * 32, cols - b * 32, room);
      uint8_t* to = tile + (b * tokens + t) * PlaneBytes(kForm);
      if constexpr (kForm == InputForm::kFloat32) {
        for (int v = 0; v < kVecs; ++v) {
          Store(reinterpret_cast<float*>(to) + v * kLanes, Load(from + v * kLanes));
        }
      } else {
        for (int j = 0; j < 32; ++j) {
          const uint16_t upper = FloatToBFloat16(from[j]);
          reinterpret_cast<uint16_t*>(to)[j] = upper;
          if constexpr (kForm == InputForm::kBFloat16Pair) {
            const float left = from[j] - BFloat16ToFloat(upper);
            reinterpret_cast<uint16_t*>(to + plane)[j] = FloatToBFloat16(left);
          }
        }
      }
    }
  }
}

}  // namespace

void PrepareInput(InputForm form, const float* x, int64_t cols, int64_t n, const InputPart& part,
                  uint8_t* prepared) {
  for (int64_t t = part.token_begin; t < part.token_end; t += kTokenTile) {
    const int64_t tokens = n - t < kTokenTile ? n - t : kTokenTile;
    uint8_t* tile = prepared + InputBytes(form, cols, t);
    const float* from = x + t * cols;
    switch (form) {
      case InputForm::kFloat32:
        PrepareFloats<InputForm::kFloat32>(from, cols, tokens, part, tile);
        break;
      case InputForm::kBFloat16:
        PrepareFloats<InputForm::kBFloat16>(from, cols, tokens, part, tile);
        break;
      case InputForm::kBFloat16Pair:
        PrepareFloats<InputForm::kBFloat16Pair>(from, cols, tokens, part, tile);
        break;
      case InputForm::kInt8:
        PrepareIntegers(from, cols, tokens, part, tile);
        break;
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
