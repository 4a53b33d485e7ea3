#include "worker/model/kv_cache.h"

#include <cstdint>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

// Bytes of one layer's keys (or values); -1 when the product overflows.
int64_t BytesPerLayer(const KvCacheShape& shape, const KvCacheShape::Layer& layer,
                      int64_t element_bytes) {
  int64_t bytes = shape.num_blocks;
  for (int64_t factor : {int64_t{layer.num_kv_heads}, int64_t{shape.block_tokens},
                         int64_t{layer.head_dim}, element_bytes}) {
    if (__builtin_mul_overflow(bytes, factor, &bytes)) return -1;
  }
  return bytes;
}

}  // namespace

absl::StatusOr<KvCache> KvCache::Create(kernels::Device& device, KvCacheShape shape) {
  const auto element_bytes = static_cast<int64_t>(kernels::BlockBytes(device.KvType()));
  std::vector<size_t> begins;
  int64_t bytes = 0;
  for (const KvCacheShape::Layer& layer : shape.layers) {
    begins.push_back(static_cast<size_t>(bytes));
    int64_t both = BytesPerLayer(shape, layer, element_bytes);
    if (both < 0 || __builtin_mul_overflow(both, 2, &both) ||
        __builtin_add_overflow(bytes, both, &bytes)) {
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
  return KvCache(std::move(shape), device.KvType(), device.CacheLayout(), std::move(begins),
                 *std::move(memory));
}

kernels::KvCacheView KvCache::layer(int local_layer) const {
  const KvCacheShape::Layer& layer = shape_.layers[static_cast<size_t>(local_layer)];
  const int64_t elements =
      int64_t{shape_.num_blocks} * layer.num_kv_heads * shape_.block_tokens * layer.head_dim;
  std::byte* const keys = memory_.get() + begins_[static_cast<size_t>(local_layer)];
  return {.keys = keys,
          .values = keys + kernels::RowBytes(type_, elements),
          .type = type_,
          .layout = layout_,
          .num_blocks = shape_.num_blocks,
          .num_kv_heads = layer.num_kv_heads,
          .block_tokens = shape_.block_tokens,
          .head_dim = layer.head_dim};
}

void KvCache::CopyBlock(kernels::Device& device, int source, int destination) const {
  for (size_t i = 0; i < shape_.layers.size(); ++i) {
    device.CopyKvBlock(layer(static_cast<int>(i)), source, destination);
  }
}

}  // namespace tessera::worker
