// Finding one's way in an architecture: which kind a layer is of, what a rank holds of it, and the
// numbers that a config leaves at their defaults.
//
// Pure functions of messages that ValidateArchitecture (and, for a shard, the plan's check) accepted.
// Threads: any.
//
//   const v1::AttentionConfig& attention = model::LayerAt(arch, layer).attention();
//   const v1::Range& heads = model::RangesAt(arch, shard, layer).q_heads();
#ifndef TESSERA_PROTO_MODEL_LAYERS_H_
#define TESSERA_PROTO_MODEL_LAYERS_H_

#include <cmath>
#include <cstdint>

#include "tessera/v1/plan.pb.h"

namespace tessera::model {

inline int32_t Size(const v1::Range& range) { return range.end() - range.begin(); }

// Index into layer_kinds.
inline int KindOf(const v1::Architecture& arch, int layer) {
  return arch.layer_kind_of_size() == 0 ? 0 : arch.layer_kind_of(layer);
}

inline const v1::LayerConfig& LayerAt(const v1::Architecture& arch, int layer) {
  return arch.layer_kinds(KindOf(arch, layer));
}

// What `shard` holds of each layer of that kind.
inline const v1::KindShard& RangesOf(const v1::RankShard& shard, int kind) {
  return shard.kinds(kind);
}

// What `shard` holds of that layer, if the layer is of its stage.
inline const v1::KindShard& RangesAt(const v1::Architecture& arch, const v1::RankShard& shard,
                                     int layer) {
  return shard.kinds(KindOf(arch, layer));
}

// How many of `layers` are of that kind.
inline int LayersOfKind(const v1::Architecture& arch, const v1::Range& layers, int kind) {
  int count = 0;
  for (int layer = layers.begin(); layer < layers.end(); ++layer) {
    count += KindOf(arch, layer) == kind ? 1 : 0;
  }
  return count;
}

// Query heads that read one KV head.
inline int QueryGroup(const v1::AttentionConfig& attention) {
  return attention.num_heads() / attention.num_kv_heads();
}

// Elements of a head that rotate; 0 without rotary embedding.
inline int RotaryDim(const v1::AttentionConfig& attention) {
  if (!attention.has_rope()) return 0;
  return attention.rope().rotary_dim() > 0 ? attention.rope().rotary_dim() : attention.head_dim();
}

// What multiplies query times key.
inline float AttentionScale(const v1::AttentionConfig& attention) {
  if (attention.scale() != 0) return attention.scale();
  return 1.0f / std::sqrt(static_cast<float>(attention.head_dim()));
}

// A multiplier as the messages have it: 0, which is unset, is 1.
inline float Multiplier(float field) { return field == 0 ? 1.0f : field; }

// The places to cut a feed-forward between: granules, the last perhaps smaller.
inline int Granules(const v1::FeedForwardConfig& feed_forward) {
  return (feed_forward.width() + feed_forward.granularity() - 1) / feed_forward.granularity();
}

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_LAYERS_H_
