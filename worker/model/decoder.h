// The forward pass of one rank's shard: embedding, its stage's layers, and the output head.
//
// One decoder for all families; what differs between models, and between the layers of one, stands
// in Architecture as layer kinds. Where its norms stand decides how a layer reads:
//
//   before (PRE):   norm, attend, add, norm, feed forward, add
//   behind (POST):  attend, norm, add, feed forward, norm, add
//
// The hidden state is replicated over the tensor-parallel ranks; each product with cut columns ends
// in one all-reduce, so a layer has two, and a third, of two numbers per token, where queries and
// keys are normalized over their whole width.
//
// Ownership: owns its weights, KV cache and buffers; borrows device and communicator. Threads: the
// engine thread. Buffers hold max_tokens_per_step tokens; a batch may not have more.
//
//   TESSERA_RETURN_IF_ERROR(decoder->Begin(batch));
//   TESSERA_RETURN_IF_ERROR(decoder->Embed());                    // first stage
//   TESSERA_RETURN_IF_ERROR(decoder->RunLayers([] { return absl::OkStatus(); }));
//   TESSERA_ASSIGN_OR_RETURN(auto logits, decoder->Logits(rows));  // last stage
#ifndef TESSERA_WORKER_MODEL_DECODER_H_
#define TESSERA_WORKER_MODEL_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/activation_link.h"
#include "worker/model/kv_cache.h"
#include "worker/model/rope_table.h"
#include "worker/model/shard_loader.h"

namespace tessera::worker {

// The tokens of one step, flattened in chunk order. The block tables are borrowed.
struct TokenBatch {
  std::vector<int32_t> token_ids;                // (n)
  std::vector<int32_t> positions;                // (n)
  std::vector<kernels::SequenceSpan> sequences;  // the same tokens, by sequence

  int64_t size() const { return static_cast<int64_t>(token_ids.size()); }
};

class Decoder {
 public:
  // `tp` joins the devices of this stage's tensor-parallel ranks.
  struct Setup {
    const ModelFile* file = nullptr;
    const v1::ShardPlan* plan = nullptr;
    int world_rank = 0;
    kernels::Device* device = nullptr;
    ActivationLink* tp = nullptr;
    LoadProgress progress;
  };
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const Setup& setup);

  int64_t hidden_size() const { return arch_.hidden_size(); }

  // The keys and values of one KV block over another's, in all of the stage's layers. Both below
  // num_kv_blocks.
  void CopyBlock(int source, int destination) {
    kv_cache_->CopyBlock(*device_, source, destination);
  }

  // The batch that all calls below speak of, until the next Begin; `batch` is borrowed until then.
  absl::Status Begin(const TokenBatch& batch);
  // Whether that, and all that follows it, can be while the device is at work on the batch before.
  bool TakesBehind(const TokenBatch& batch);

  // The hidden state of the batch's tokens, (n, hidden_size): made by Embed, or that of the stage
  // before; changed by RunLayers.
  absl::Status Embed();
  absl::Status WriteHidden(absl::Span<const std::byte> hidden);  // float32, at any address
  absl::StatusOr<absl::Span<const float>> ReadHidden();  // valid until the next call
  // The same from and to a neighbour's device, without the host.
  absl::Status ReceiveHidden(StageLink& stage) {
    return stage.ReceiveFromPrevious(hidden_, tokens_ * arch_.hidden_size());
  }
  absl::Status SendHidden(StageLink& stage) {
    return stage.SendToNext(hidden_, tokens_ * arch_.hidden_size());
  }

  // `between` is called often in between (twice a layer): layers of a large model take seconds, and
  // others wait for word from this rank. Its failure is returned at once.
  absl::Status RunLayers(absl::FunctionRef<absl::Status()> between);
  // The same without waiting for a device that works by itself.
  absl::Status StartLayers(absl::FunctionRef<absl::Status()> between);

  // Logits of this rank's vocabulary rows for the batch's tokens `rows`, rising (at most
  // kMaxLogitRows).
  // Returns (rows.size(), local_vocab_size()), valid until the next call.
  static constexpr int64_t kMaxLogitRows = 64;
  absl::StatusOr<absl::Span<const float>> Logits(absl::Span<const int64_t> rows);
  // The same, left in the device's memory.
  void ComputeLogits(absl::Span<const int64_t> rows);
  const float* device_logits() const { return logits_; }
  int64_t local_vocab_size() const { return shard_.vocab().end() - shard_.vocab().begin(); }

 private:
  using Activation = kernels::Activation;

  Decoder(const v1::Architecture& arch, const v1::RankShard& shard, kernels::Device* device,
          ActivationLink* tp)
      : arch_(arch), shard_(shard), device_(device), tp_(tp) {}

  // What all layers of a kind have in common on this rank.
  struct Kind {
    kernels::AttentionShape shape;  // without weights and kv_head_of
    std::vector<int32_t> kv_head_of;  // (local q heads)
    int largest_group = 0;
    int64_t q_cols = 0;    // local q heads * head_dim
    int64_t kv_cols = 0;   // local kv heads * head_dim
    int64_t ffn_cols = 0;  // local
    // Norms over the whole width: those of all ranks, and the first local key column whose squares
    // this rank sums.
    bool whole_width_norm = false;
    int64_t whole_q_cols = 0;
    int64_t whole_kv_cols = 0;
    int64_t counted_begin = 0;
    float residual = 1;    // multiplies what a sublayer adds to the hidden state
    int out_segment = 1;   // of the sums of wo's and w_down's products
    int down_segment = 1;
  };
  struct Layer {
    const Kind* kind = nullptr;
    const LayerWeights* weights = nullptr;
    kernels::AttentionShape attention;
    kernels::KvCacheView cache;
  };

  absl::Status DescribeKinds();
  absl::Status PlaceLayers(int num_blocks, int block_tokens);
  kernels::StepView ViewOf(const TokenBatch& batch) const;
  absl::Status AllocateBuffers(int64_t max_tokens);
  absl::StatusOr<Activation*> AllocateActivations(int64_t count);
  absl::StatusOr<Activation*> AllocateSummands(int64_t count);  // what is summed over the ranks
  absl::Status RunAllLayers(absl::FunctionRef<absl::Status()> between);
  // Readies what the next products read: the hidden state, normalized where `weight` is not null.
  void Norm(const float* weight);
  // Sums what the ranks' products gave, normalizes it if `post` is not null, adds it to the hidden
  // state, and then as Norm(next).
  absl::Status AddAndNorm(const Layer& layer, const float* post, const float* next);
  absl::Status Attend(const Layer& layer);  // leaves this rank's summand in partial_
  absl::Status NormWholeWidth(const Layer& layer);
  void FeedForward(const Layer& layer);  // likewise
  const Activation* SideBySide(absl::Span<const int64_t> rows);  // (rows.size(), hidden)
  // (hidden) `row` and on of a buffer of such rows.
  Activation* Row(Activation* x, int64_t row) const;
  kernels::Partial* Row(kernels::Partial* x, int64_t row) const;

  const v1::Architecture arch_;
  const v1::RankShard shard_;
  kernels::Device* const device_;
  ActivationLink* const tp_;

  ModelShard weights_;
  std::unique_ptr<KvCache> kv_cache_;
  std::vector<Kind> kinds_;    // as arch_.layer_kinds
  std::vector<Layer> layers_;  // the stage's
  RopeAngles angles_;          // of the layers that have rotary embedding
  int rotary_dim_ = 0;
  bool interleaved_ = false;
  std::vector<float> cos_, sin_;  // of the step's tokens, (n, rotary_dim / 2)
  int largest_group_ = 0;         // of all kinds
  int widest_window_ = 0;         // 0: some layer has none

  int64_t tokens_ = 0;  // of the step
  int64_t rows_ = 0;    // that the device computes for them (Device::BeginStep)
  bool splits_rows_ = false;  // ActivationLink::SplitsRows
  std::vector<float> host_hidden_;

  std::vector<kernels::Device::Buffer> buffers_;
  // (max rows, ...): what each is beside it.
  Activation* hidden_ = nullptr;         // hidden
  Activation* own_normed_ = nullptr;     // hidden; this rank's alone
  // hidden; what products read: the own or the common one, or the hidden state itself
  const Activation* normed_ = nullptr;
  kernels::Partial* partial_ = nullptr;  // hidden; this rank's summand until the all-reduce
  kernels::SquareSum* square_sums_ = nullptr;  // (2 * max rows): of queries, then of keys
  Activation* gathered_ = nullptr;       // (kMaxLogitRows, hidden)
  Activation* q_ = nullptr;              // local q heads * head_dim
  Activation* k_ = nullptr;              // local kv heads * head_dim
  Activation* v_ = nullptr;              // local kv heads * head_dim
  Activation* attended_ = nullptr;       // local q heads * head_dim
  Activation* gate_ = nullptr;           // local ffn
  Activation* up_ = nullptr;             // local ffn
  float* logits_ = nullptr;              // (kMaxLogitRows, local vocab)
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_DECODER_H_
