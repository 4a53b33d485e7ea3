#include "coordinator/plan/rank_part.h"

namespace tessera::coordinator {
namespace {

v1::IndexRange IndexRangeOf(const v1::Range& range) {
  v1::IndexRange shown;
  shown.set_begin(range.begin());
  shown.set_end(range.end());
  return shown;
}

}  // namespace

v1::RankPart RankPartOf(const v1::RankShard& shard) {
  v1::RankPart part;
  part.set_world_rank(shard.world_rank());
  part.set_tp_rank(shard.tp_rank());
  part.set_pp_stage(shard.pp_stage());
  *part.mutable_layers() = IndexRangeOf(shard.layers());
  for (const v1::KindShard& kind : shard.kinds()) {
    v1::LayerPart* layer = part.add_kinds();
    *layer->mutable_q_heads() = IndexRangeOf(kind.q_heads());
    *layer->mutable_kv_heads() = IndexRangeOf(kind.kv_heads());
    *layer->mutable_ffn() = IndexRangeOf(kind.ffn());
  }
  *part.mutable_vocab() = IndexRangeOf(shard.vocab());
  part.set_has_embedding(shard.has_embedding());
  part.set_has_output_head(shard.has_output_head());
  part.set_weight_bytes(shard.weight_bytes());
  part.set_kv_bytes_per_token(shard.kv_bytes_per_token());
  return part;
}

v1::RankTimes RankTimesOf(const v1::StepTimes& times) {
  v1::RankTimes shown;
  shown.set_steps(times.steps());
  shown.set_computing_micros(times.computing_micros());
  shown.set_waiting_micros(times.waiting_micros());
  shown.set_transferring_micros(times.transferring_micros());
  shown.set_idle_micros(times.idle_micros());
  shown.set_late_micros(times.late_micros());
  return shown;
}

}  // namespace tessera::coordinator
