// Writing keys or values into the paged cache, as float32 or rounded to bfloat16. Pure copying: the
// same on every instruction set.
#ifndef TESSERA_KERNELS_CPU_KV_STORE_H_
#define TESSERA_KERNELS_CPU_KV_STORE_H_

#include <cstdint>

#include "kernels/views.h"

namespace tessera::kernels::cpu {

// One token's keys and values to position `position` of the sequence whose KV blocks are
// `block_table`. key, value: (num_kv_heads, head_dim).
void StoreKeyAndValue(const float* key, const float* value, const int32_t* block_table,
                      int position, const KvCacheView& cache);

// Block `source` of `store` over block `destination`.
void CopyBlock(const KvCacheView& cache, int source, int destination, void* store);

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_KV_STORE_H_
