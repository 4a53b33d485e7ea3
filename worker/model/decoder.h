// The forward pass of one rank's shard: embedding, its stage's layers, and the output head.
//
// One decoder for the whole Llama family; what differs between models stands in Architecture as
// numbers and flags. The hidden state is replicated over the tensor-parallel ranks; each product
// with cut columns ends in one all-reduce, so a layer has two.
//
// Ownership: owns its weights, KV cache and buffers; borrows device and communicator. Threads: the
// engine thread. Buffers hold max_tokens_per_step tokens; a batch may not have more.
//
//   TESSERA_RETURN_IF_ERROR(decoder->Embed(batch));               // first stage
//   TESSERA_RETURN_IF_ERROR(decoder->RunLayers(batch, [] { return absl::OkStatus(); }));
//   decoder->Logits(rows, logits);                                // last stage
#ifndef TESSERA_WORKER_MODEL_DECODER_H_
#define TESSERA_WORKER_MODEL_DECODER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "tessera/v1/model.pb.h"
#include "worker/comm/communicator.h"
#include "worker/model/kv_cache.h"
#include "worker/model/rope_table.h"
#include "worker/model/shard_loader.h"

namespace tessera::worker {

// The tokens of one step, flattened in chunk order. All of size n; the block tables are borrowed.
struct TokenBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> positions;
  std::vector<const int32_t*> block_tables;  // of each token's sequence

  int64_t size() const { return static_cast<int64_t>(token_ids.size()); }
};

class Decoder {
 public:
  // `tp` is the communicator of this stage's tensor-parallel ranks.
  struct Setup {
    const ModelFile* file = nullptr;
    const v1::ShardPlan* plan = nullptr;
    int world_rank = 0;
    kernels::Device* device = nullptr;
    Communicator* tp = nullptr;
    LoadProgress progress;
  };
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const Setup& setup);

  // Hidden state of the batch's tokens, (n, hidden_size): the output of Embed and RunLayers, or
  // filled by the caller from the stage before.
  float* hidden() { return hidden_; }
  int64_t hidden_size() const { return arch_.hidden_size(); }

  // The keys and values of one KV block over another's, in all of the stage's layers. Both below
  // num_kv_blocks.
  void CopyBlock(int source, int destination) {
    kv_cache_->CopyBlock(*device_, source, destination);
  }

  absl::Status Embed(const TokenBatch& batch);
  // `between` is called often in between (twice a layer): layers of a large model take seconds, and
  // others wait for word from this rank. Its failure is returned at once.
  absl::Status RunLayers(const TokenBatch& batch, absl::FunctionRef<absl::Status()> between);

  // Logits of this rank's vocabulary rows for the batch's tokens `rows` (at most kMaxLogitRows).
  // Returns (rows.size(), local_vocab_size()), valid until the next call.
  static constexpr int64_t kMaxLogitRows = 64;
  absl::StatusOr<absl::Span<const float>> Logits(absl::Span<const int64_t> rows);
  int64_t local_vocab_size() const { return shard_.vocab().end() - shard_.vocab().begin(); }

 private:
  Decoder(const v1::Architecture& arch, const v1::RankShard& shard, kernels::Device* device,
          Communicator* tp)
      : arch_(arch), shard_(shard), device_(device), tp_(tp) {}

  absl::Status AllocateBuffers(int64_t max_tokens);
  absl::StatusOr<float*> AllocateFloats(int64_t count);
  void TurnTo(const TokenBatch& batch);
  absl::Status Attend(const TokenBatch& batch, int local_layer);
  absl::Status FeedForward(const TokenBatch& batch, const LayerWeights& layer);
  absl::Status AllReduce(float* data, int64_t count);

  const v1::Architecture arch_;
  const v1::RankShard shard_;
  kernels::Device* const device_;
  Communicator* const tp_;

  ModelShard weights_;
  std::unique_ptr<KvCache> kv_cache_;
  RopeAngles angles_;
  kernels::RopeTable rope_;          // its row i is that of the batch's token i
  std::vector<int32_t> rope_rows_;   // 0, 1, ...
  std::vector<int32_t> kv_head_of_;  // (local q heads)
  kernels::AttentionShape attention_;

  std::vector<kernels::Device::Buffer> buffers_;
  // (max tokens, ...): what each is beside it.
  float* hidden_ = nullptr;    // hidden
  float* normed_ = nullptr;    // hidden
  float* partial_ = nullptr;   // hidden; this rank's summand until AllReduce
  float* q_ = nullptr;         // local q heads * head_dim
  float* k_ = nullptr;         // local kv heads * head_dim
  float* v_ = nullptr;         // local kv heads * head_dim
  float* attended_ = nullptr;  // local q heads * head_dim
  float* cos_ = nullptr;       // head_dim / 2
  float* sin_ = nullptr;       // head_dim / 2
  float* gate_ = nullptr;      // local ffn
  float* up_ = nullptr;        // local ffn
  float* logits_ = nullptr;    // (kMaxLogitRows, local vocab)
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_DECODER_H_
