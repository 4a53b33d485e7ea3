// What the parts of a tile's attention share: where keys and values lie, which rows go together,
// and how memory is asked for.
//
// Blocks lie anywhere, so no machine guesses where the next one does, and reading would stand still
// whenever there is something to compute. So a loop asks for what it will read soon; and the tile's
// first rows ask for what is read after the loop, into the second cache: the scores for the values
// of the same positions, the weighted sum for the keys of the next chunk.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_ATTENTION_ROWS_H_
#define TESSERA_KERNELS_CPU_ATTENTION_ROWS_H_

#include <cstdint>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr int kRowBlock = 4;  // rows side by side
// Vectors of positions (scores) or dimensions (values) side by side: with kRowBlock rows, as many
// sums as the registers hold beside what they are made of.
constexpr int kVecBlock = kLanes == 16 ? 4 : 2;

// Asks for memory that is to be read soon, or after the loop at hand.
TESSERA_INLINE void AskSoon(const void* p) { __builtin_prefetch(p); }
TESSERA_INLINE void AskLater(const void* p) { __builtin_prefetch(p, 0, 2); }
template <typename Element>
constexpr int kLineElements = 64 / static_cast<int>(sizeof(Element));

TESSERA_INLINE int Least(int a, int b) { return a < b ? a : b; }
TESSERA_INLINE int Most(int a, int b) { return a > b ? a : b; }

// One sequence's keys or values in one KV head of the cache.
template <typename Element>
struct Kv {
  const Element* base;  // of the store, at this KV head
  const int32_t* blocks;
  int64_t block_stride;  // elements between blocks
  int block_tokens;
  int head_dim;

  // `block`: one of `blocks`.
  const Element* Block(const int32_t* block) const { return base + *block * block_stride; }
  const Element* Block(int position) const { return Block(blocks + position / block_tokens); }
  // Where the position's value lies, in front of what shares its step. Keys of the same block lie
  // around it.
  const Element* Row(int position) const {
    return Block(position) + static_cast<int64_t>(position % block_tokens) * head_dim;
  }
};

// What a tile attends to.
template <typename Element>
struct Cached {
  Kv<Element> keys;
  Kv<Element> values;
  int end;  // of the positions
};

// Half-open positions.
struct Positions {
  int begin;
  int end;
};

// From a row's weights to the next one's.
constexpr int kWeightsStride = 16 + kAttentionChunk + 16;

// kRows rows of a tile and their places. kFirst: the tile's first.
template <typename Factor, int kRows, bool kFirst>
struct Rows {
  const Factor* q[kRows];  // [dim], a zero behind
  Positions range[kRows];  // in the chunk; where empty, at its begin
  float* scores[kRows];    // [p - chunk begin]; room for a vector behind
  Factor* weights;         // (kRows, kWeightsStride), likewise, with room for one in front
  float* state[kRows];
};

// state := highest, sum, 14 unused, head_dim weighed values, padded to 16
constexpr int kStateHead = 16;

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ATTENTION_ROWS_H_
