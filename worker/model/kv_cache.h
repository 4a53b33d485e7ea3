// The keys and values of this rank's layers and KV heads, in blocks of kv_block_tokens positions.
//
// One allocation for all layers, never written at start: the system maps its pages as positions are
// stored, so an idle cache costs address space only. Layers may differ in KV heads and head size;
// the blocks are the same for all, so that one block table serves every layer. Which sequence owns
// which block is the coordinator's business; here are only numbered blocks.
//
//   TESSERA_ASSIGN_OR_RETURN(KvCache cache, KvCache::Create(device, shape));
//   device.RotateAndStore(shape, cache.layer(0), n, q, k, v);
#ifndef TESSERA_WORKER_MODEL_KV_CACHE_H_
#define TESSERA_WORKER_MODEL_KV_CACHE_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace tessera::worker {

struct KvCacheShape {
  struct Layer {
    int num_kv_heads = 0;  // on this rank
    int head_dim = 0;
  };
  int num_blocks = 0;
  int block_tokens = 0;
  std::vector<Layer> layers;  // the stage's, in order
};

class KvCache {
 public:
  // Of the device's KvType, in its CacheLayout. RESOURCE_EXHAUSTED saying how many bytes were asked
  // for.
  static absl::StatusOr<KvCache> Create(kernels::Device& device, KvCacheShape shape);

  // Local layer: 0 is the stage's first.
  kernels::KvCacheView layer(int local_layer) const;

  // All layers of one block over another's; both in 0 .. num_blocks - 1.
  void CopyBlock(kernels::Device& device, int source, int destination) const;

 private:
  KvCache(KvCacheShape shape, kernels::DType type, kernels::KvLayout layout,
          std::vector<size_t> begins, kernels::Device::Buffer memory)
      : shape_(std::move(shape)),
        type_(type),
        layout_(layout),
        begins_(std::move(begins)),
        memory_(std::move(memory)) {}

  KvCacheShape shape_;
  kernels::DType type_;
  kernels::KvLayout layout_;
  std::vector<size_t> begins_;      // by layer: the byte at which its keys begin
  kernels::Device::Buffer memory_;  // per layer: all keys, then all values
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_KV_CACHE_H_
