#include "worker/model/kv_cache.h"

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

// Elements of one layer's keys (or values); -1 when the product overflows.
int64_t ElementsPerLayer(const KvCacheShape& shape) {
  int64_t elements = shape.num_blocks;
  for (int64_t factor : {shape.num_kv_heads, shape.block_tokens, shape.head_dim}) {
    if (__builtin_mul_overflow(elements, factor, &elements)) return -1;
  }
  return elements;
}

}  // namespace

absl::StatusOr<KvCache> KvCache::Create(kernels::Device& device, const KvCacheShape& shape) {
  const int64_t per_layer = ElementsPerLayer(shape);
  int64_t bytes = per_layer;
  const auto element_bytes = static_cast<int64_t>(kernels::BlockBytes(device.KvType()));
  for (int64_t factor : {int64_t{2}, int64_t{shape.num_layers}, element_bytes}) {
    if (bytes < 0 || __builtin_mul_overflow(bytes, factor, &bytes)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("KV cache of ", shape.num_blocks, " blocks exceeds the address space"));
    }
  }
  auto memory = device.Allocate(static_cast<size_t>(bytes));
  if (!memory.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("KV cache of ", shape.num_blocks, " blocks (",
                                                     bytes,
                                                     " bytes): ", memory.status().ToString()));
  }
  return KvCache(shape, device.KvType(), device.CacheLayout(), *std::move(memory));
}

kernels::KvCacheView KvCache::layer(int local_layer) const {
  const size_t per_layer = kernels::RowBytes(type_, ElementsPerLayer(shape_));
  std::byte* keys = memory_.get() + 2 * local_layer * per_layer;
  return {.keys = keys,
          .values = keys + per_layer,
          .type = type_,
          .layout = layout_,
          .num_blocks = shape_.num_blocks,
          .num_kv_heads = shape_.num_kv_heads,
          .block_tokens = shape_.block_tokens,
          .head_dim = shape_.head_dim};
}

void KvCache::CopyBlock(kernels::Device& device, int source, int destination) const {
  for (int i = 0; i < shape_.num_layers; ++i) device.CopyKvBlock(layer(i), source, destination);
}

}  // namespace tessera::worker
