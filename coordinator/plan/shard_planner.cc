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
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"
#include "proto/model/check_plan.h"
#include "proto/model/layers.h"
#include "proto/model/limits.h"
#include "proto/model/slices.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

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

// The largest number of ranks that each get a query head, an FFN granule and a vocabulary row.
absl::Status CheckTensorParallel(const v1::Architecture& arch, int size) {
  int most = arch.vocab_size();
  std::string why = absl::StrCat("the vocabulary has ", most, " rows");
  for (const v1::LayerConfig& kind : arch.layer_kinds()) {
    const int granules = model::Granules(kind.feed_forward());
    if (granules <= most) {
      most = granules;
      why = absl::StrCat("the FFN has ", granules, " granules of ",
                         kind.feed_forward().granularity(), " columns");
    }
    if (kind.attention().num_heads() <= most) {
      most = kind.attention().num_heads();
      why = absl::StrCat("the model has ", most, " query heads");
    }
  }
  if (size >= 1 && size <= most) return absl::OkStatus();
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
  if (int64_t{layout.tensor_parallel} * layout.pipeline_parallel > model::kMaxWorldSize) {
    return OutOfRange("--pipeline-parallel-size", layout.pipeline_parallel, 1,
                      model::kMaxWorldSize / layout.tensor_parallel,
                      absl::StrCat("a group has at most ", model::kMaxWorldSize, " ranks"));
  }
  TESSERA_RETURN_IF_ERROR(CheckTensorSplit(layout));
  TESSERA_RETURN_IF_ERROR(CheckLayerSplit(arch, layout));
  TESSERA_RETURN_IF_ERROR(
      InRange("kv_block_tokens", layout.kv_block_tokens, 1, model::kMaxBlockTokens));
  TESSERA_RETURN_IF_ERROR(InRange("--max-num-batched-tokens", layout.max_tokens_per_step, 1,
                                  model::MaxTokensPerStep(arch.hidden_size())));
  return InRange("--max-num-seqs", layout.max_sequences_per_step, 1, model::kMaxSequencesPerStep);
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

// Query heads of each tp_rank, and the KV heads that they read.
void SplitHeads(const v1::AttentionConfig& attention, int kind, const std::vector<double>& weights,
                std::vector<v1::RankShard>* shards) {
  const std::vector<Span> heads = Apportion(attention.num_heads(), weights);
  for (size_t i = 0; i < shards->size(); ++i) {
    v1::KindShard& ranges = *(*shards)[i].mutable_kinds(kind);
    *ranges.mutable_q_heads() = ToRange(heads[i].begin, heads[i].end);
    *ranges.mutable_kv_heads() = model::KvHeadsOf(ranges.q_heads(), attention);
  }
}

bool IsOfKind(const v1::TensorDescription& tensor, const v1::Architecture& arch, int kind) {
  return tensor.layer() >= 0 && model::KindOf(arch, tensor.layer()) == kind;
}

// Bytes of the matrices of that kind of layer that are cut by heads, as far as `shard` holds them.
int64_t HeadBytes(const v1::ModelDescription& model, int kind, const v1::RankShard& shard) {
  int64_t bytes = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (!IsOfKind(tensor, model.architecture(), kind)) continue;
    const v1::ShardAxis axis = tensor.axis();
    if (axis == v1::SHARD_AXIS_Q_HEAD_ROWS || axis == v1::SHARD_AXIS_Q_HEAD_COLS ||
        axis == v1::SHARD_AXIS_KV_HEAD_ROWS) {
      bytes += model::SliceBytes(tensor, model.architecture(), shard);
    }
  }
  return bytes;
}

// The weights by which FFN columns make up for heads that do not divide: with them each rank's part
// of the layers' matrices is its share by `weights`, as far as columns can do that. Not where columns
// are cut so finely that the parts would come out as no multiple of anything that devices multiply
// well.
std::vector<double> FfnWeights(const v1::ModelDescription& model, int kind,
                               const std::vector<v1::RankShard>& shards,
                               const std::vector<double>& weights) {
  constexpr int kFinest = 32;
  const v1::FeedForwardConfig& feed_forward = model.architecture().layer_kinds(kind).feed_forward();
  if (feed_forward.granularity() < kFinest) return weights;
  double ffn_bytes = 0;
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (!IsOfKind(tensor, model.architecture(), kind)) continue;
    if (tensor.axis() != v1::SHARD_AXIS_FFN_ROWS && tensor.axis() != v1::SHARD_AXIS_FFN_COLS) continue;
    ffn_bytes += static_cast<double>(tensor.resident_bytes());
  }
  std::vector<double> head_bytes;
  head_bytes.reserve(shards.size());
  for (const v1::RankShard& shard : shards) {
    head_bytes.push_back(static_cast<double>(HeadBytes(model, kind, shard)));
  }
  const double all = std::accumulate(head_bytes.begin(), head_bytes.end(), ffn_bytes);
  const std::vector<double> shares = Shares(weights);
  // Even a rank whose heads are more than its share gets a granule.
  const double least = std::max(1.0, ffn_bytes / model::Granules(feed_forward));
  std::vector<double> ffn;
  for (size_t i = 0; i < shards.size(); ++i) {
    ffn.push_back(std::max(least, all * shares[i] - head_bytes[i]));
  }
  return ffn;
}

// FFN columns of each tp_rank, whose heads are dealt out already.
void SplitFeedForward(const v1::ModelDescription& model, int kind,
                      const std::vector<double>& weights, std::vector<v1::RankShard>* shards) {
  const v1::FeedForwardConfig& feed_forward = model.architecture().layer_kinds(kind).feed_forward();
  const std::vector<Span> granules = Apportion(
      model::Granules(feed_forward), FfnWeights(model, kind, *shards, weights));
  const int granularity = feed_forward.granularity();
  for (size_t i = 0; i < shards->size(); ++i) {
    *(*shards)[i].mutable_kinds(kind)->mutable_ffn() =
        ToRange(granules[i].begin * granularity,
                std::min(granules[i].end * granularity, feed_forward.width()));
  }
}

// What each tp_rank holds of each kind of layer, and its vocabulary rows; the same on every stage.
std::vector<v1::RankShard> SplitTensors(const v1::ModelDescription& model, const Layout& layout) {
  const v1::Architecture& arch = model.architecture();
  const std::vector<double> weights =
      layout.tensor_split.empty() ? EvenWeights(layout.tensor_parallel) : layout.tensor_split;
  const std::vector<Span> vocab = Apportion(arch.vocab_size(), weights);
  std::vector<v1::RankShard> shards(weights.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].set_tp_rank(static_cast<int>(i));
    *shards[i].mutable_vocab() = ToRange(vocab[i].begin, vocab[i].end);
    for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) shards[i].add_kinds();
  }
  for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) {
    SplitHeads(arch.layer_kinds(kind).attention(), kind, weights, &shards);
    SplitFeedForward(model, kind, weights, &shards);
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
  const int64_t element_bytes = kv_type == v1::DATA_TYPE_BF16 ? 2 : 4;
  int64_t elements = 0;
  for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) {
    const int64_t layers = model::LayersOfKind(arch, shard.layers(), kind);
    elements += layers * model::Size(model::RangesOf(shard, kind).kv_heads()) *
                arch.layer_kinds(kind).attention().head_dim();
  }
  return elements * kKeysAndValues * element_bytes;
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
      if (!model::StageHolds(tensor, model.architecture(), shard)) continue;
      bytes += model::SliceBytes(tensor, model.architecture(), shard);
    }
    shard.set_weight_bytes(bytes);
  }
}

}  // namespace

absl::StatusOr<v1::ShardPlan> PlanShards(const v1::ModelDescription& model, const Layout& layout) {
  TESSERA_RETURN_IF_ERROR(model::CheckDescription(model));
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
  // As every rank will: what a rank refuses is no plan.
  TESSERA_RETURN_IF_ERROR(model::CheckPlan(model, plan, /*world_rank=*/0, plan.ranks_size()));
  return plan;
}

}  // namespace tessera::coordinator
