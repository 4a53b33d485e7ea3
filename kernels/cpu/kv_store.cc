#include "kernels/cpu/kv_store.h"

#include <cassert>
#include <cstring>

#include "kernels/half.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu {

void StoreRow(const float* row, const int32_t* block_table, int position, const KvCacheView& cache,
              void* store) {
  const int64_t dim = cache.head_dim;
  const int64_t block = block_table[position / cache.block_tokens];
  assert(block >= 0 && block < cache.num_blocks);
  const int64_t slot = position % cache.block_tokens;
  for (int64_t head = 0; head < cache.num_kv_heads; ++head, row += dim) {
    const int64_t at = ((block * cache.num_kv_heads + head) * cache.block_tokens + slot) * dim;
    if (cache.type == DType::kBF16) {
      uint16_t* to = static_cast<uint16_t*>(store) + at;
      for (int64_t i = 0; i < dim; ++i) to[i] = FloatToBFloat16(row[i]);
    } else {
      std::memcpy(static_cast<float*>(store) + at, row, dim * sizeof(float));
    }
  }
}

void CopyBlock(const KvCacheView& cache, int source, int destination, void* store) {
  assert(source >= 0 && source < cache.num_blocks && destination != source);
  assert(destination >= 0 && destination < cache.num_blocks);
  const size_t bytes = RowBytes(cache.type, int64_t{cache.num_kv_heads} * cache.block_tokens *
                                                cache.head_dim);
  auto* blocks = static_cast<std::byte*>(store);
  std::memcpy(blocks + destination * bytes, blocks + source * bytes, bytes);
}

}  // namespace tessera::kernels::cpu
