// Loads one rank's slices of the weights into device memory.
//
// Each slice passes through a bounded host buffer and the device puts it into its own layout: peak
// memory is the shard plus that buffer and the file reader's window. Ownership: ModelShard owns the
// memory, its views point into it. Threads: one.
//
//   TESSERA_ASSIGN_OR_RETURN(ModelShard shard, LoadShard(file, plan.ranks(r), device, progress));
//   device.MatMul({{shard.layers[0].wq, shard.layers[0].bq, q}}, x, n);
#ifndef TESSERA_WORKER_MODEL_SHARD_LOADER_H_
#define TESSERA_WORKER_MODEL_SHARD_LOADER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/tensor.h"
#include "tessera/v1/plan.pb.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

// Absent tensors are null. "local" = this rank's share.
struct LayerWeights {
  const float* attn_norm = nullptr;       // (hidden); where norms stand before
  const float* attn_post_norm = nullptr;  // (hidden); where they stand behind
  kernels::WeightMatrix wq;            // (local q heads * head_dim, hidden)
  kernels::WeightMatrix wk, wv;        // (local kv heads * head_dim, hidden)
  const float* bq = nullptr;           // (local q heads * head_dim)
  const float* bk = nullptr;           // (local kv heads * head_dim)
  const float* bv = nullptr;           // (local kv heads * head_dim)
  const float* q_norm = nullptr;       // (head_dim), or (local q heads * head_dim)
  const float* k_norm = nullptr;       // (head_dim), or (local kv heads * head_dim)
  kernels::WeightMatrix wo;            // (hidden, local q heads * head_dim): partial sums
  const float* ffn_norm = nullptr;       // (hidden); before
  const float* ffn_post_norm = nullptr;  // (hidden); behind
  kernels::WeightMatrix w_gate, w_up;  // (local ffn, hidden)
  kernels::WeightMatrix w_down;        // (hidden, local ffn): partial sums
};

struct ModelShard {
  kernels::WeightMatrix token_embedding;  // (local vocab, hidden); first stage, or tied
  const float* output_norm = nullptr;     // (hidden), times the logit scale; last stage
  kernels::WeightMatrix output;           // (local vocab, hidden); last stage; may be the embedding
  std::vector<LayerWeights> layers;       // the stage's, in order
  std::vector<kernels::DeviceMemory::Buffer> memory;
};

// bytes so far, bytes in all. Called at most every few megabytes, and once at the end.
using LoadProgress = std::function<void(int64_t bytes_loaded, int64_t bytes_total)>;

// The plan must have passed CheckPlan. FAILED_PRECONDITION when the file lacks a tensor that the
// architecture needs.
absl::StatusOr<ModelShard> LoadShard(const ModelFile& file, const v1::RankShard& shard,
                                     kernels::DeviceMemory& device, const LoadProgress& progress);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_SHARD_LOADER_H_
