#include "kernels/cpu/kv_store.h"

#include <cassert>
#include <cstring>

namespace tessera::kernels::cpu {

void StoreRows(const float* rows, const TokenPlacement& where, int64_t n, const KvCacheView& cache,
               float* store) {
  const int64_t dim = cache.head_dim;
  for (int64_t t = 0; t < n; ++t) {
    const int position = where.positions[t];
    const int64_t block = where.block_tables[t][position / cache.block_tokens];
    assert(block >= 0 && block < cache.num_blocks);
    const int64_t slot = position % cache.block_tokens;
    for (int64_t head = 0; head < cache.num_kv_heads; ++head) {
      float* to = store + ((block * cache.num_kv_heads + head) * cache.block_tokens + slot) * dim;
      std::memcpy(to, rows, dim * sizeof(float));
      rows += dim;
    }
  }
}

void CopyBlock(const KvCacheView& cache, int source, int destination, float* store) {
  assert(source >= 0 && source < cache.num_blocks && destination != source);
  assert(destination >= 0 && destination < cache.num_blocks);
  const int64_t floats = int64_t{cache.num_kv_heads} * cache.block_tokens * cache.head_dim;
  std::memcpy(store + destination * floats, store + source * floats, floats * sizeof(float));
}

}  // namespace tessera::kernels::cpu
