#include "kernels/cpu/kv_store.h"

#include <cassert>
#include <cstddef>
#include <cstring>

#include "kernels/half.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu {

namespace {

// `count` elements, `stride` elements apart in the store.
void Put(const float* from, int64_t count, DType type, void* store, int64_t at, int64_t stride) {
  if (type == DType::kBF16) {
    uint16_t* to = static_cast<uint16_t*>(store) + at;
    for (int64_t i = 0; i < count; ++i) to[i * stride] = FloatToBFloat16(from[i]);
  } else {
    float* to = static_cast<float*>(store) + at;
    for (int64_t i = 0; i < count; ++i) to[i * stride] = from[i];
  }
}

}  // namespace

void StoreKeyAndValue(const float* key, const float* value, const int32_t* block_table,
                      int position, const KvCacheView& cache) {
  const int64_t dim = cache.head_dim;
  const int64_t block = block_table[position / cache.block_tokens];
  assert(block >= 0 && block < cache.num_blocks);
  const int64_t slot = position % cache.block_tokens;
  for (int64_t head = 0; head < cache.num_kv_heads; ++head, key += dim, value += dim) {
    const int64_t first = (block * cache.num_kv_heads + head) * cache.block_tokens * dim;
    if (cache.keys_by_dim) {
      Put(key, dim, cache.type, cache.keys, first + slot, cache.block_tokens);
    } else {
      Put(key, dim, cache.type, cache.keys, first + slot * dim, 1);
    }
    Put(value, dim, cache.type, cache.values, first + slot * dim, 1);
  }
}

void CopyBlock(const KvCacheView& cache, int source, int destination, void* store) {
  assert(source >= 0 && source < cache.num_blocks && destination != source);
  assert(destination >= 0 && destination < cache.num_blocks);
  const size_t bytes =
      RowBytes(cache.type, int64_t{cache.num_kv_heads} * cache.block_tokens * cache.head_dim);
  auto* blocks = static_cast<std::byte*>(store);
  std::memcpy(blocks + destination * bytes, blocks + source * bytes, bytes);
}

}  // namespace tessera::kernels::cpu
