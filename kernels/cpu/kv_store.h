// Writing keys or values into the paged cache. Pure copying: the same on every instruction set.
#ifndef TESSERA_KERNELS_CPU_KV_STORE_H_
#define TESSERA_KERNELS_CPU_KV_STORE_H_

#include <cstdint>

#include "kernels/views.h"

namespace tessera::kernels::cpu {

// rows: (n, num_kv_heads, head_dim), to `store`, which is the cache's keys or values.
void StoreRows(const float* rows, const TokenPlacement& where, int64_t n, const KvCacheView& cache,
               float* store);

// Block `source` of `store` over block `destination`.
void CopyBlock(const KvCacheView& cache, int source, int destination, float* store);

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_KV_STORE_H_
