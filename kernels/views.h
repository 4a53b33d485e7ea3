// What the operations of device.h take besides matrices: plain views over memory somebody else
// owns, apart from device.h so that instruction-set code includes nothing else (kernels/cpu/ops.h).
#ifndef TESSERA_KERNELS_VIEWS_H_
#define TESSERA_KERNELS_VIEWS_H_

#include <cstdint>

namespace tessera::kernels {

// Rotary tables: cos and sin of every position (or row) and pair, (rows, rope_dim / 2) each.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int rope_dim = 0;          // leading elements of a head that turn; the rest pass through
  bool interleaved = false;  // pairs (2i, 2i+1), else (i, i + rope_dim/2)
};

// One layer's KV cache on this rank: blocks of `block_tokens` positions.
// key[block][kv_head][token in block][head_dim], values alike.
struct KvCacheView {
  float* keys = nullptr;    // (num_blocks, num_kv_heads, block_tokens, head_dim)
  float* values = nullptr;  // (num_blocks, num_kv_heads, block_tokens, head_dim)
  int num_blocks = 0;
  int num_kv_heads = 0;
  int block_tokens = 16;
  int head_dim = 0;
};

// Where each of the step's n tokens stands. Arrays of n, host memory.
struct TokenPlacement {
  const int32_t* positions = nullptr;            // position in its sequence
  const int32_t* const* block_tables = nullptr;  // per token: its sequence's KV blocks, in order
};

struct AttentionShape {
  int num_q_heads = 0;   // on this rank
  int num_kv_heads = 0;  // on this rank
  int head_dim = 0;
  // Query head h of this rank reads local KV head kv_head_of[h]. (num_q_heads)
  const int32_t* kv_head_of = nullptr;
  float scale = 0;         // on q·k, usually 1/sqrt(head_dim)
  int sliding_window = 0;  // last positions attended to; 0 = all
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_VIEWS_H_
