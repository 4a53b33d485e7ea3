// How a product's outputs are walked, shared by the kernels of all weight types: some groups of rows
// whose weights stay in the cache, then tile after tile of tokens, then group by group. With few
// tokens that is one walk over the weights from front to back.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_MATMUL_TILES_H_
#define TESSERA_KERNELS_CPU_MATMUL_TILES_H_

#include <cstdint>

#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kParts = 16 / kLanes;  // vectors per group of rows
// How far ahead of their reading weights are asked for.
constexpr int64_t kPrefetchBytes = 8192;

// Some of a tile's tokens: `stride` tokens stand in the tile, these begin at the pointers.
struct TileTokens {
  const uint8_t* values;
  int64_t plane;  // bytes from one plane to the next
  int64_t stride;
  int64_t first;  // in the input
  // What integer inputs have besides (matmul_input.h).
  const float* scales = nullptr;
  const int32_t* high_offsets = nullptr;
  const int32_t* low_offsets = nullptr;
  const uint32_t* peaked = nullptr;
  int shift = 0;  // of the first token's bit in `peaked`

  // Bit t: token t of kTokens is peaked in that block.
  template <int kTokens>
  TESSERA_INLINE uint32_t PeakedIn(int64_t block) const {
    return peaked[block] >> shift & ((1u << kTokens) - 1u);
  }
};

TESSERA_INLINE TileTokens TokensOf(const ProductArgs& args, int64_t tile_begin, int64_t tile_tokens,
                                   int64_t token) {
  const int64_t bytes = PlaneBytes(args.form);
  const uint8_t* tile = args.input + InputBytes(args.form, args.cols, tile_begin);
  TileTokens tokens = {.values = tile + token * bytes,
                       .plane = BlocksOf(args.cols) * tile_tokens * bytes,
                       .stride = tile_tokens,
                       .first = tile_begin + token};
  if (args.form == InputForm::kInt8) {
    const Int8Tile parts = Int8TileAt(const_cast<uint8_t*>(tile), args.cols, tile_tokens);
    tokens.scales = parts.scales + token;
    tokens.high_offsets = parts.high_offsets + token;
    tokens.low_offsets = parts.low_offsets + token;
    tokens.peaked = parts.peaked;
    tokens.shift = static_cast<int>(token);
  }
  return tokens;
}

// kLanes rows of one token, which may be fewer at the matrix's end.
TESSERA_INLINE void StoreRows(const ProductArgs& args, int64_t token, int64_t row, Vec sums) {
  float* out = args.out + token * args.rows + row;
  const int64_t left = args.rows - row;
  if (left >= kLanes) {
    if (args.bias) sums = Add(sums, Load(args.bias + row));
    Store(out, sums);
  } else if (left > 0) {
    const int count = static_cast<int>(left);
    if (args.bias) sums = Add(sums, LoadPartial(args.bias + row, count));
    StorePartial(out, sums, count);
  }
}

// Stores partial sums, kLanes of them.
TESSERA_INLINE void StorePartials(const ProductArgs& args, int64_t token, int64_t row,
                                  const double* sums) {
  double* out = args.partials + token * args.rows + row;
  for (int64_t r = 0; r < kLanes && row + r < args.rows; ++r) out[r] = sums[r];
}

// (kTokens, kLanes) of them: a call of memset would take as long as a block.
template <int kTokens>
TESSERA_INLINE void ZeroDoubles(double* sums) {
#pragma GCC unroll 32
  for (int v = 0; v < 2 * kTokens; ++v) {
    Store(reinterpret_cast<float*>(sums) + v * kLanes, Zero());
  }
}

// Kernel::Begin<T>, if there is one, comes before any groups of T tokens.
// Kernel::kGroups<T>: how many groups it takes side by side for T tokens; Kernel::kMaxTokens: a power
// of two. Kernel::Run<G, T>(args, group, tokens) computes G groups of T tokens.
template <typename Kernel, int kTokens>
void WalkGroups(const ProductArgs& args, int64_t begin, int64_t end, const TileTokens& tokens) {
  constexpr int kGroups = Kernel::template kGroups<kTokens>;
  if constexpr (requires { Kernel::template Begin<kTokens>(); }) Kernel::template Begin<kTokens>();
  int64_t group = begin;
  for (; group + kGroups <= end; group += kGroups) {
    Kernel::template Run<kGroups, kTokens>(args, group, tokens);
  }
  if constexpr (kGroups > 1) {
    for (; group < end; ++group) Kernel::template Run<1, kTokens>(args, group, tokens);
  }
}

template <typename Kernel, int kTokens>
void WalkTile(const ProductArgs& args, int64_t begin, int64_t end, int64_t tile_begin,
              int64_t tile_tokens, int64_t token) {
  for (; token + kTokens <= tile_tokens; token += kTokens) {
    WalkGroups<Kernel, kTokens>(args, begin, end, TokensOf(args, tile_begin, tile_tokens, token));
  }
  if constexpr (kTokens > 1) {
    if (token < tile_tokens) {
      WalkTile<Kernel, kTokens / 2>(args, begin, end, tile_begin, tile_tokens, token);
    }
  }
}

// The tokens from first_token on.
template <typename Kernel>
void WalkProduct(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                 int64_t first_token = 0) {
  constexpr int64_t kCachedBytes = 256 * 1024;
  const int64_t fit = kCachedBytes / Kernel::GroupBytes(args.cols);
  const int64_t step = fit < 4 ? 4 : fit / 4 * 4;
  for (int64_t begin = group_begin; begin < group_end; begin += step) {
    const int64_t end = begin + step < group_end ? begin + step : group_end;
    int64_t token = first_token % kTokenTile;
    for (int64_t tile = first_token - token; tile < args.n; tile += kTokenTile) {
      const int64_t tokens = args.n - tile < kTokenTile ? args.n - tile : kTokenTile;
      WalkTile<Kernel, Kernel::kMaxTokens>(args, begin, end, tile, tokens, token);
      token = 0;
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_MATMUL_TILES_H_
