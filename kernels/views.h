// What the operations of device.h take besides matrices: plain views over memory somebody else
// owns, apart from device.h so that instruction-set code includes nothing else (kernels/cpu/ops.h).
#ifndef TESSERA_KERNELS_VIEWS_H_
#define TESSERA_KERNELS_VIEWS_H_

#include <cstdint>

#include "kernels/tensor.h"

namespace tessera::kernels {

// Rotary tables: cos and sin of every row and pair, (rows, rope_dim / 2) each. Host memory.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int rope_dim = 0;          // leading elements of a head that turn; the rest pass through
  bool interleaved = false;  // pairs (2i, 2i+1), else (i, i + rope_dim/2)
};

// How the keys, and the values, of one block and KV head lie: block_tokens * head_dim elements
// each.
enum class KvLayout {
  // keys, values := [token][dim]
  kByToken,
  // keys := [dim][token]: a block's tokens side by side, as vector lanes want them
  // values := [token][dim]
  kKeysByDim,
  // As dot products of pairs want them. What an odd number leaves over lies behind the pairs.
  // keys := [dim / 2][token][2 dims], then the last dim's [token]
  // values := [token / 2][dim][2 tokens], then the last token's [dim]
  kPairs,
};

// One layer's KV cache on this rank: blocks of `block_tokens` positions.
//
//   keys, values := (num_blocks, num_kv_heads) times block_tokens * head_dim of `type` in `layout`
struct KvCacheView {
  void* keys = nullptr;
  void* values = nullptr;
  DType type = DType::kF32;  // kF32 or kBF16
  KvLayout layout = KvLayout::kByToken;
  int num_blocks = 0;
  int num_kv_heads = 0;
  int block_tokens = 16;
  int head_dim = 0;
};

// Elements of the keys (or the values) before those of a block's KV head.
static inline int64_t KvHeadOffset(const KvCacheView& cache, int64_t block, int64_t kv_head) {
  return (block * cache.num_kv_heads + kv_head) * cache.block_tokens * cache.head_dim;
}

// The offset of [i][j] where rows lie in pairs, (rows / 2, columns, 2), and an odd last row by
// itself.
static inline int64_t OffsetInPairs(int64_t i, int64_t j, int64_t rows, int64_t columns) {
  const int64_t first = i / 2 * 2;
  return first * columns + (first + 1 < rows ? 2 * j : j) + i % 2;
}

// Elements of a block's KV head before dim d of the key, or of the value, of the block's token
// `slot`.
static inline int64_t KeyOffset(const KvCacheView& cache, int64_t slot, int64_t d) {
  switch (cache.layout) {
    case KvLayout::kByToken:
      return slot * cache.head_dim + d;
    case KvLayout::kKeysByDim:
      return d * cache.block_tokens + slot;
    case KvLayout::kPairs:
      return OffsetInPairs(d, slot, cache.head_dim, cache.block_tokens);
  }
  return 0;
}
static inline int64_t ValueOffset(const KvCacheView& cache, int64_t slot, int64_t d) {
  return cache.layout == KvLayout::kPairs
             ? OffsetInPairs(slot, d, cache.block_tokens, cache.head_dim)
             : slot * cache.head_dim + d;
}

// A run of the step's tokens that stand one after the other in one sequence. Host memory.
struct SequenceSpan {
  int32_t first_token = 0;  // in the step
  int32_t num_tokens = 0;
  int32_t start_position = 0;            // of the first token; token i stands at start_position + i
  const int32_t* block_table = nullptr;  // the sequence's KV blocks, in order (num_blocks)
  int32_t num_blocks = 0;                // enough for the last token's position
};

// The tokens of one step, in the order of their sequences. Host memory.
struct StepView {
  int64_t n = 0;
  const int32_t* ids = nullptr;  // (n), < 0: see sampling_queue.h; null behind the first stage
  const SequenceSpan* sequences = nullptr;  // (num_sequences), in the order of their tokens
  int64_t num_sequences = 0;
  RopeTable rope;  // row t: of the step's token t
  // What holds for the attention of all layers: at most this many query heads read one KV head, and
  // no token attends to more than its last sliding_window positions (0: to all).
  int largest_group = 1;
  int sliding_window = 0;
};

// What of a layer's attention does not change from step to step.
struct AttentionShape {
  int num_q_heads = 0;   // on this rank
  int num_kv_heads = 0;  // on this rank
  int head_dim = 0;
  // Query head h of this rank reads local KV head kv_head_of[h], which never falls. (num_q_heads),
  // host memory; the same pointer for as long as the device lives.
  const int32_t* kv_head_of = nullptr;
  float scale = 0;         // on q·k, usually 1/sqrt(head_dim)
  int sliding_window = 0;  // last positions attended to; 0 = all
  bool rotary = true;      // queries and keys turn by the step's table
  // (head_dim) in device memory, or null: no q/k norm.
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  float norm_eps = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_VIEWS_H_
