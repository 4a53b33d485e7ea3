// Which part of a tensor a rank holds: the stage that has it, the range along its cut dimension, and
// what that occupies.
//
// Pure functions of messages that CheckDescription and CheckPlan accepted. Threads: any.
//
//   if (model::StageHolds(tensor, arch, shard)) bytes += model::SliceBytes(tensor, arch, shard);
#ifndef TESSERA_PROTO_MODEL_SLICES_H_
#define TESSERA_PROTO_MODEL_SLICES_H_

#include <cstdint>
#include <optional>

#include "tessera/v1/plan.pb.h"

namespace tessera::model {

// Whether `shard`'s stage holds `tensor` at all, whatever the axis. A tied embedding is held by the
// first stage and by the last, whose output head it is; one stage that is both holds it once.
bool StageHolds(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                const v1::RankShard& shard);

// [begin, end) of `whole` rows or columns. A vector's only dimension counts as the one that is cut.
struct Cut {
  bool columns = false;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t whole = 0;
};

// The range that a rank owning `shard` holds, were its stage the tensor's; nullopt for what every
// rank holds whole.
std::optional<Cut> CutOf(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                         const v1::RankShard& shard);

// Bytes of that range once loaded (TensorDescription.resident_bytes says how they divide).
int64_t SliceBytes(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                   const v1::RankShard& shard);

// The KV heads that query heads [begin, end) read, at least one of them.
v1::Range KvHeadsOf(const v1::Range& q_heads, const v1::AttentionConfig& attention);

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_SLICES_H_
