#include "kernels/cpu/kv_store.h"

#include <cassert>
#include <cstddef>
#include <cstring>

#include "kernels/half.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cpu {

namespace {

uint16_t Converted(float value, uint16_t*) { return FloatToBFloat16(value); }
float Converted(float value, float*) { return value; }

// Dim d of a key or value, from[d], to to[offset(d)]. In every layout two dims lie as the two
// before.
template <typename Element, typename Offset>
void PutDims(const float* from, int64_t head_dim, Element* to, Offset offset) {
  const int64_t second = offset(1) - offset(0), next = offset(2) - offset(0);
  Element* pair = to + offset(0);
  int64_t d = 0;
  for (; d + 2 <= head_dim; d += 2, pair += next) {
    pair[0] = Converted(from[d], to);
    pair[second] = Converted(from[d + 1], to);
  }
  if (d < head_dim) to[offset(d)] = Converted(from[d], to);
}

template <typename Offset>
void Put(const float* from, const KvCacheView& cache, void* store, int64_t first, Offset offset) {
  if (cache.type == DType::kBF16) {
    PutDims(from, cache.head_dim, static_cast<uint16_t*>(store) + first, offset);
  } else {
    PutDims(from, cache.head_dim, static_cast<float*>(store) + first, offset);
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
    const int64_t first = KvHeadOffset(cache, block, head);
    Put(key, cache, cache.keys, first, [&](int64_t d) { return KeyOffset(cache, slot, d); });
    Put(value, cache, cache.values, first, [&](int64_t d) { return ValueOffset(cache, slot, d); });
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
