#include "proto/model/check_plan.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"
#include "proto/model/layers.h"
#include "proto/model/limits.h"
#include "proto/model/slices.h"

namespace tessera::model {
namespace {

std::string Text(const v1::Range& range) {
  return absl::StrCat("[", range.begin(), ", ", range.end(), ")");
}

absl::Status Expect(bool holds, absl::string_view field, absl::string_view expected,
                    absl::string_view actual) {
  if (holds) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("shard plan: ", field, ": expected ", expected, ", got ", actual));
}

absl::Status ExpectEqual(int64_t expected, int64_t actual, absl::string_view field) {
  return Expect(expected == actual, field, absl::StrCat(expected), absl::StrCat(actual));
}

absl::Status ExpectWithin(int64_t low, int64_t high, int64_t actual, absl::string_view field) {
  return Expect(low <= actual && actual <= high, field, absl::StrCat(low, " .. ", high),
                absl::StrCat(actual));
}

// `range` continues a partition of [0, size) where the last one ended, and is not empty.
absl::Status ExpectNext(const v1::Range& range, int32_t begin, int32_t size,
                        absl::string_view field) {
  return Expect(range.begin() == begin && range.begin() < range.end() && range.end() <= size, field,
                absl::StrCat("a range from ", begin, ", not empty, within ", size), Text(range));
}

absl::Status CheckSizes(const v1::Architecture& arch, const v1::ShardPlan& plan, int world_rank,
                        int world_size) {
  const int64_t tp = plan.tensor_parallel_size();
  const int64_t pp = plan.pipeline_parallel_size();
  TESSERA_RETURN_IF_ERROR(ExpectWithin(1, kMaxWorldSize, world_size, "ranks in the world"));
  TESSERA_RETURN_IF_ERROR(ExpectWithin(1, world_size, tp, "tensor_parallel_size"));
  TESSERA_RETURN_IF_ERROR(ExpectWithin(1, world_size, pp, "pipeline_parallel_size"));
  TESSERA_RETURN_IF_ERROR(
      ExpectEqual(world_size, tp * pp, "ranks in the world against tensor × pipeline parallel"));
  TESSERA_RETURN_IF_ERROR(ExpectEqual(world_size, plan.ranks_size(), "number of rank shards"));
  TESSERA_RETURN_IF_ERROR(ExpectWithin(0, world_size - 1, world_rank, "own world rank"));
  TESSERA_RETURN_IF_ERROR(
      ExpectWithin(1, kMaxBlockTokens, plan.kv_block_tokens(), "kv_block_tokens"));
  TESSERA_RETURN_IF_ERROR(
      ExpectWithin(1, MaxKvBlocks(plan.kv_block_tokens()), plan.num_kv_blocks(), "num_kv_blocks"));
  const bool kept = plan.kv_type() == v1::DATA_TYPE_UNSPECIFIED || plan.kv_type() == v1::DATA_TYPE_F32 ||
                    plan.kv_type() == v1::DATA_TYPE_BF16;
  TESSERA_RETURN_IF_ERROR(Expect(kept, "kv_type", "F32 or BF16", absl::StrCat(plan.kv_type())));
  TESSERA_RETURN_IF_ERROR(ExpectWithin(1, kMaxModelLen, plan.max_model_len(), "max_model_len"));
  TESSERA_RETURN_IF_ERROR(ExpectWithin(1, MaxTokensPerStep(arch.hidden_size()),
                                       plan.max_tokens_per_step(), "max_tokens_per_step"));
  return ExpectWithin(1, kMaxSequencesPerStep, plan.max_sequences_per_step(),
                      "max_sequences_per_step");
}

absl::Status CheckPlace(const v1::RankShard& shard, int world_rank, const v1::ShardPlan& plan,
                        const std::string& who) {
  const int tp = plan.tensor_parallel_size();
  const int stage = world_rank / tp;
  TESSERA_RETURN_IF_ERROR(ExpectEqual(world_rank, shard.world_rank(), who + "world_rank"));
  TESSERA_RETURN_IF_ERROR(ExpectEqual(world_rank % tp, shard.tp_rank(), who + "tp_rank"));
  TESSERA_RETURN_IF_ERROR(ExpectEqual(stage, shard.pp_stage(), who + "pp_stage"));
  TESSERA_RETURN_IF_ERROR(ExpectEqual(stage == 0, shard.has_embedding(), who + "has_embedding"));
  return ExpectEqual(stage == plan.pipeline_parallel_size() - 1, shard.has_output_head(),
                     who + "has_output_head");
}

absl::Status CheckKvHeads(const v1::KindShard& ranges, const v1::AttentionConfig& attention,
                          const std::string& who) {
  const v1::Range needed = KvHeadsOf(ranges.q_heads(), attention);
  return Expect(
      ranges.kv_heads().begin() == needed.begin() && ranges.kv_heads().end() == needed.end(),
      who + "kv_heads", absl::StrCat(Text(needed), ", those its query heads read"),
      Text(ranges.kv_heads()));
}

absl::Status CheckFfnCut(const v1::KindShard& ranges, const v1::FeedForwardConfig& feed_forward,
                         const std::string& who) {
  const int32_t end = ranges.ffn().end();
  return Expect(end % feed_forward.granularity() == 0 || end == feed_forward.width(), who + "ffn",
                absl::StrCat("cuts at multiples of ", feed_forward.granularity()),
                Text(ranges.ffn()));
}

// What one stage's tensor-parallel ranks hold of a kind of layer must add up to the whole.
absl::Status CheckKind(const v1::Architecture& arch, const v1::ShardPlan& plan, int stage,
                       int kind) {
  const v1::LayerConfig& config = arch.layer_kinds(kind);
  const int tp = plan.tensor_parallel_size();
  const int32_t heads = config.attention().num_heads();
  const int32_t width = config.feed_forward().width();
  int32_t head = 0, ffn = 0;
  for (int world_rank = stage * tp; world_rank < (stage + 1) * tp; ++world_rank) {
    const v1::KindShard& ranges = plan.ranks(world_rank).kinds(kind);
    const std::string who = absl::StrCat("rank ", world_rank, ": ");
    TESSERA_RETURN_IF_ERROR(ExpectNext(ranges.q_heads(), head, heads, who + "q_heads"));
    TESSERA_RETURN_IF_ERROR(CheckKvHeads(ranges, config.attention(), who));
    TESSERA_RETURN_IF_ERROR(ExpectNext(ranges.ffn(), ffn, width, who + "ffn"));
    TESSERA_RETURN_IF_ERROR(CheckFfnCut(ranges, config.feed_forward(), who));
    head = ranges.q_heads().end();
    ffn = ranges.ffn().end();
  }
  const std::string where = absl::StrCat("stage ", stage, ": sum over its ranks of ");
  TESSERA_RETURN_IF_ERROR(ExpectEqual(heads, head, where + "q_heads"));
  return ExpectEqual(width, ffn, where + "ffn");
}

// One stage's tensor-parallel ranks: what they hold must add up to the whole.
absl::Status CheckStage(const v1::Architecture& arch, const v1::ShardPlan& plan, int stage,
                        int32_t first_layer) {
  const int tp = plan.tensor_parallel_size();
  int32_t vocab = 0;
  for (int world_rank = stage * tp; world_rank < (stage + 1) * tp; ++world_rank) {
    const v1::RankShard& shard = plan.ranks(world_rank);
    const std::string who = absl::StrCat("rank ", world_rank, ": ");
    TESSERA_RETURN_IF_ERROR(CheckPlace(shard, world_rank, plan, who));
    TESSERA_RETURN_IF_ERROR(
        ExpectNext(shard.layers(), first_layer, arch.num_layers(), who + "layers"));
    TESSERA_RETURN_IF_ERROR(ExpectEqual(plan.ranks(stage * tp).layers().end(), shard.layers().end(),
                                        who + "end of its stage's layers"));
    TESSERA_RETURN_IF_ERROR(
        ExpectEqual(arch.layer_kinds_size(), shard.kinds_size(), who + "kinds of layer"));
    TESSERA_RETURN_IF_ERROR(ExpectNext(shard.vocab(), vocab, arch.vocab_size(), who + "vocab"));
    vocab = shard.vocab().end();
  }
  for (int kind = 0; kind < arch.layer_kinds_size(); ++kind) {
    TESSERA_RETURN_IF_ERROR(CheckKind(arch, plan, stage, kind));
  }
  return ExpectEqual(arch.vocab_size(), vocab,
                     absl::StrCat("stage ", stage, ": sum over its ranks of vocab"));
}

}  // namespace

absl::Status CheckPlan(const v1::ModelDescription& model, const v1::ShardPlan& plan, int world_rank,
                       int world_size) {
  const v1::Architecture& arch = model.architecture();
  TESSERA_RETURN_IF_ERROR(CheckArchitecture(arch));
  TESSERA_RETURN_IF_ERROR(CheckSizes(arch, plan, world_rank, world_size));
  int32_t layer = 0;
  for (int stage = 0; stage < plan.pipeline_parallel_size(); ++stage) {
    TESSERA_RETURN_IF_ERROR(CheckStage(arch, plan, stage, layer));
    layer = plan.ranks(stage * plan.tensor_parallel_size()).layers().end();
  }
  return ExpectEqual(arch.num_layers(), layer, "sum over the stages of layers");
}

}  // namespace tessera::model
