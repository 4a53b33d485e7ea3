#include "coordinator/plan/shard_planner.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/plan/apportion.h"
#include "coordinator/plan/kv_budget.h"
#include "coordinator/plan/layer_split.h"
#include "coordinator/plan/tensor_table.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr int kMaxWorldSize = 65'536;
constexpr int kMaxBlockTokens = 4'096;
constexpr int kMaxPerStep = 1'000'000;
constexpr int kKeysAndValues = 2;

absl::Status OutOfRange(const char* flag, int value, int lowest, int highest,
                        const std::string& why = "") {
  return wire::FieldError(flag, absl::StrCat("is ", value, "; expected ", lowest, " .. ", highest,
                                             why.empty() ? "" : absl::StrCat(" (", why, ")")));
}

absl::Status InRange(const char* flag, int value, int lowest, int highest) {
  if (value >= lowest && value <= highest) return absl::OkStatus();
  return OutOfRange(flag, value, lowest, highest);
}

int FfnGranules(const v1::Architecture& arch) {
  return (arch.ffn_size() + arch.ffn_granularity() - 1) / arch.ffn_granularity();
}

// The largest number of ranks that each get a query head, an FFN granule and a vocabulary row.
absl::Status CheckTensorParallel(const v1::Architecture& arch, int size) {
  const int granules = FfnGranules(arch);
  const int most = std::min({arch.num_heads(), granules, arch.vocab_size()});
  if (size >= 1 && size <= most) return absl::OkStatus();
  std::string why = absl::StrCat("the model has ", arch.num_heads(), " query heads");
  if (most == granules && granules < arch.num_heads()) {
    why =
        absl::StrCat("the FFN has ", granules, " granules of ", arch.ffn_granularity(), " columns");
  } else if (most < arch.num_heads()) {
    why = absl::StrCat("the vocabulary has ", arch.vocab_size(), " rows");
  }
  return OutOfRange("--tensor-parallel-size", size, 1, most, why);
}

absl::Status CheckTensorSplit(const Layout& layout) {
  const auto& weights = layout.tensor_split;
  if (weights.empty()) return absl::OkStatus();
  if (weights.size() != static_cast<size_t>(layout.tensor_parallel)) {
    return wire::FieldError(
        "--tensor-split",
        absl::StrCat("has ", weights.size(), " weights; expected ", layout.tensor_parallel,
                     " (--tensor-parallel-size), one for each rank"));
  }
  for (const double weight : weights) {
    if (std::isfinite(weight) && weight > 0) continue;
    return wire::FieldError("--tensor-split", absl::StrCat("has the weight ", weight,
                                                           "; expected positive finite numbers"));
  }
  return absl::OkStatus();
}

absl::Status CheckLayerSplit(const v1::Architecture& arch, const Layout& layout) {
  const auto& split = layout.layer_split;
  if (split.empty()) return absl::OkStatus();
  if (split.size() != static_cast<size_t>(layout.pipeline_parallel)) {
    return wire::FieldError("--layer-split",
                            absl::StrCat("has ", split.size(), " stages; expected ",
                                         layout.pipeline_parallel, " (--pipeline-parallel-size)"));
  }
  int64_t sum = 0;
  for (const int layers : split) {
    if (layers < 1) {
      return wire::FieldError(
          "--layer-split", absl::StrCat("gives a stage ", layers, " layers; expected at least 1"));
    }
    sum += layers;
  }
  if (sum == arch.num_layers()) return absl::OkStatus();
  return wire::FieldError("--layer-split",
                          absl::StrCat("is ", absl::StrJoin(split, ","), ", which sums to ", sum,
                                       "; expected the model's ", arch.num_layers(), " layers"));
}

absl::Status CheckLayout(const v1::Architecture& arch, const Layout& layout) {
  TESSERA_RETURN_IF_ERROR(CheckTensorParallel(arch, layout.tensor_parallel));
  if (layout.pipeline_parallel < 1 || layout.pipeline_parallel > arch.num_layers()) {
    return OutOfRange("--pipeline-parallel-size", layout.pipeline_parallel, 1, arch.num_layers(),
                      absl::StrCat("the model has ", arch.num_layers(), " layers"));
  }
  if (int64_t{layout.tensor_parallel} * layout.pipeline_parallel > kMaxWorldSize) {
    return OutOfRange("--pipeline-parallel-size", layout.pipeline_parallel, 1,
                      kMaxWorldSize / layout.tensor_parallel,
                      absl::StrCat("a group has at most ", kMaxWorldSize, " ranks"));
  }
  TESSERA_RETURN_IF_ERROR(CheckTensorSplit(layout));
  TESSERA_RETURN_IF_ERROR(CheckLayerSplit(arch, layout));
  TESSERA_RETURN_IF_ERROR(InRange("kv_block_tokens", layout.kv_block_tokens, 1, kMaxBlockTokens));
  TESSERA_RETURN_IF_ERROR(
      InRange("--max-num-batched-tokens", layout.max_tokens_per_step, 1, kMaxPerStep));
  return InRange("--max-num-seqs", layout.max_sequences_per_step, 1, kMaxPerStep);
}

v1::Range ToRange(int begin, int end) {
  v1::Range range;
  range.set_begin(begin);
  range.set_end(end);
  return range;
}

// Bytes that a token's way through each layer reads. The embedding counts with the one row that is
// looked up, the output head with half of it: decodes read it, prompts all but pass it by.
std::vector<int64_t> LayerCosts(const v1::ModelDescription& model) {
  const v1::Architecture& arch = model.architecture();
  std::vector<int64_t> costs(static_cast<size_t>(arch.num_layers()), 0);
  for (const v1::TensorDescription& tensor : model.tensors()) {
    const int64_t bytes = tensor.resident_bytes();
    if (tensor.layer() >= 0) {
      costs[static_cast<size_t>(tensor.layer())] += bytes;
    } else if (tensor.name() == "token_embedding") {
      costs.front() += bytes / arch.vocab_size();
      if (arch.tied_embeddings()) costs.back() += bytes / 2;
    } else {
      costs.back() += bytes / 2;  // the head; the norm before it is nothing beside it
    }
  }
  return costs;
}

std::vector<Span> SplitLayers(const v1::ModelDescription& model, const Layout& layout) {
  if (layout.layer_split.empty()) return SplitByCost(LayerCosts(model), layout.pipeline_parallel);
  std::vector<Span> spans;
  int begin = 0;
  for (const int layers : layout.layer_split) {
    spans.push_back({begin, begin + layers});
    begin += layers;
  }
  return spans;
}

// Query heads, the KV heads that they read, and vocabulary rows of each tp_rank.
std::vector<v1::RankShard> SplitHeads(const v1::Architecture& arch,
                                      const std::vector<double>& weights) {
  const std::vector<Span> heads = Apportion(arch.num_heads(), weights);
  const std::vector<Span> vocab = Apportion(arch.vocab_size(), weights);
  const int group = arch.num_heads() / arch.num_kv_heads();  // query heads that read one KV head
  std::vector<v1::RankShard> shards(weights.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    v1::RankShard& shard = shards[i];
    shard.set_tp_rank(static_cast<int>(i));
    *shard.mutable_q_heads() = ToRange(heads[i].begin, heads[i].end);
    *shard.mutable_kv_heads() = ToRange(heads[i].begin / group, (heads[i].end - 1) / group + 1);
    *shard.mutable_vocab() = ToRange(vocab[i].begin, vocab[i].end);
  }
  return shards;
}

// Bytes of the layers' matrices that are cut by heads, as far as `shard` holds them.
int64_t HeadBytes(const v1::ModelDescription& model, const v1::RankShard& shard) {
  int64_t bytes = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    const v1::ShardAxis axis = tensor.axis();
    if (axis == v1::SHARD_AXIS_Q_HEAD_ROWS || axis == v1::SHARD_AXIS_Q_HEAD_COLS || axis == v1::SHARD_AXIS_KV_HEAD_ROWS) {
      bytes += SliceBytes(tensor, model.architecture(), shard);
    }
  }
  return bytes;
}

// The weights by which FFN columns make up for heads that do not divide: with them each rank's part
// of the layers' matrices is its share by `weights`, as far as columns can do that. Not where columns
// are cut so finely that the parts would come out as no multiple of anything that devices multiply
// well.
std::vector<double> FfnWeights(const v1::ModelDescription& model,
                               const std::vector<v1::RankShard>& shards,
                               const std::vector<double>& weights) {
  constexpr int kFinest = 32;
  if (model.architecture().ffn_granularity() < kFinest) return weights;
  double ffn_bytes = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (tensor.axis() != v1::SHARD_AXIS_FFN_ROWS && tensor.axis() != v1::SHARD_AXIS_FFN_COLS) continue;
    ffn_bytes += static_cast<double>(tensor.resident_bytes());
  }
  std::vector<double> head_bytes;
  for (const v1::RankShard& shard : shards) {
    head_bytes.push_back(static_cast<double>(HeadBytes(model, shard)));
  }
  const double all = std::accumulate(head_bytes.begin(), head_bytes.end(), ffn_bytes);
  const std::vector<double> shares = Shares(weights);
  // Even a rank whose heads are more than its share gets a granule.
  const double least = std::max(1.0, ffn_bytes / FfnGranules(model.architecture()));
  std::vector<double> ffn;
  for (size_t i = 0; i < shards.size(); ++i) {
    ffn.push_back(std::max(least, all * shares[i] - head_bytes[i]));
  }
  return ffn;
}

// Heads, FFN columns and vocabulary rows of each tp_rank; the same on every stage.
std::vector<v1::RankShard> SplitTensors(const v1::ModelDescription& model, const Layout& layout) {
  const v1::Architecture& arch = model.architecture();
  const std::vector<double> weights =
      layout.tensor_split.empty() ? EvenWeights(layout.tensor_parallel) : layout.tensor_split;
  std::vector<v1::RankShard> shards = SplitHeads(arch, weights);
  const std::vector<Span> granules =
      Apportion(FfnGranules(arch), FfnWeights(model, shards, weights));
  const int granularity = arch.ffn_granularity();
  for (size_t i = 0; i < shards.size(); ++i) {
    *shards[i].mutable_ffn() = ToRange(granules[i].begin * granularity,
                                       std::min(granules[i].end * granularity, arch.ffn_size()));
  }
  return shards;
}

v1::DataType KvType(const v1::ModelDescription& model, const Layout& layout) {
  if (layout.kv_type != v1::DATA_TYPE_UNSPECIFIED) return layout.kv_type;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (tensor.shape_size() > 1 && tensor.type() != v1::DATA_TYPE_F32) return v1::DATA_TYPE_BF16;
  }
  return v1::DATA_TYPE_F32;
}

int64_t KvBytesPerToken(const v1::Architecture& arch, const v1::RankShard& shard,
                        v1::DataType kv_type) {
  const int64_t layers = shard.layers().end() - shard.layers().begin();
  const int64_t heads = shard.kv_heads().end() - shard.kv_heads().begin();
  const int64_t element_bytes = kv_type == v1::DATA_TYPE_BF16 ? 2 : 4;
  return layers * heads * arch.head_dim() * kKeysAndValues * element_bytes;
}

void PlanRanks(const v1::ModelDescription& model, const Layout& layout, v1::ShardPlan* plan) {
  const v1::Architecture& arch = model.architecture();
  const std::vector<v1::RankShard> tensor_shards = SplitTensors(model, layout);
  const std::vector<Span> stages = SplitLayers(model, layout);
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    for (const v1::RankShard& tensor_shard : tensor_shards) {
      const int world_rank = plan->ranks_size();
      v1::RankShard* shard = plan->add_ranks();
      *shard = tensor_shard;
      shard->set_world_rank(world_rank);
      shard->set_pp_stage(static_cast<int>(stage));
      *shard->mutable_layers() = ToRange(stages[stage].begin, stages[stage].end);
      shard->set_has_embedding(stage == 0);
      shard->set_has_output_head(stage + 1 == stages.size());
      shard->set_kv_bytes_per_token(KvBytesPerToken(arch, *shard, plan->kv_type()));
    }
  }
}

void AddWeightBytes(const v1::ModelDescription& model, v1::ShardPlan* plan) {
  for (v1::RankShard& shard : *plan->mutable_ranks()) {
    int64_t bytes = 0;
    for (const v1::TensorDescription& tensor : model.tensors()) {
      if (!StageHolds(tensor, model.architecture(), shard)) continue;
      bytes += SliceBytes(tensor, model.architecture(), shard);
    }
    shard.set_weight_bytes(bytes);
  }
}

}  // namespace

absl::StatusOr<v1::ShardPlan> PlanShards(const v1::ModelDescription& model, const Layout& layout) {
  TESSERA_RETURN_IF_ERROR(ValidateDescription(model));
  TESSERA_RETURN_IF_ERROR(CheckLayout(model.architecture(), layout));
  v1::ShardPlan plan;
  plan.set_tensor_parallel_size(layout.tensor_parallel);
  plan.set_pipeline_parallel_size(layout.pipeline_parallel);
  plan.set_max_tokens_per_step(layout.max_tokens_per_step);
  plan.set_max_sequences_per_step(layout.max_sequences_per_step);
  plan.set_kv_type(KvType(model, layout));
  PlanRanks(model, layout, &plan);
  AddWeightBytes(model, &plan);
  TESSERA_RETURN_IF_ERROR(PlanKvCache(model.architecture(), layout, &plan));
  return plan;
}

}  // namespace tessera::coordinator
