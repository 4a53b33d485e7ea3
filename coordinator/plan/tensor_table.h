// The tensors that an architecture calls for, as rows of data: name, shape, shard axis. And how
// much of one a rank holds.
//
//   for (const ExpectedTensor& tensor : ExpectedTensors(arch)) ...
#ifndef TESSERA_COORDINATOR_PLAN_TENSOR_TABLE_H_
#define TESSERA_COORDINATOR_PLAN_TENSOR_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

struct ExpectedTensor {
  std::string name;            // canonical: see model.proto
  std::vector<int64_t> shape;  // row-major, outermost first
  v1::ShardAxis axis = v1::SHARD_AXIS_REPLICATED;
  int layer = -1;
};

// Those outside the layers first, then layer by layer. The numbers of `arch` must be in bounds.
std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch);

// Bytes of `tensor` that a rank owning `shard` holds, were its layer or stage the tensor's.
int64_t SliceBytes(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                   const v1::RankShard& shard);

// Whether `shard`'s stage holds `tensor` at all.
bool StageHolds(const v1::TensorDescription& tensor, const v1::Architecture& arch,
                const v1::RankShard& shard);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_TENSOR_TABLE_H_
