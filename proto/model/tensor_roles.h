// Which tensors a decoder has, as rows of data: role, when it is present, shape, and how it is cut.
// Files name them in their own ways (worker/files/tensor_table.cc); everything else about a tensor
// stands here.
//
// Pure functions of an architecture that CheckArchitecture accepted. Threads: any.
//
//   for (const model::ExpectedTensor& tensor : model::ExpectedTensors(arch)) ...
#ifndef TESSERA_PROTO_MODEL_TENSOR_ROLES_H_
#define TESSERA_PROTO_MODEL_TENSOR_ROLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tessera/v1/model.pb.h"

namespace tessera::model {

enum class Dim { kNone, kHidden, kQueries, kKeys, kHeadDim, kFfn, kVocab };

enum class When {
  kAlways,
  kUntied,      // the output head is no token embedding
  kPreNorm,     // norms stand before attention and feed-forward
  kPostNorm,    // norms stand behind them
  kQkvBias,
  kHeadNorm,    // queries and keys are normalized head by head
  kWholeNorm,   // ... over all heads together
};

enum class Place { kBeforeLayers, kLayer, kAfterLayers };

struct TensorRole {
  const char* name;  // "wq"; its tensor in layer 3 is called "layers.3.wq"
  Place place;
  Dim rows;          // kNone: a vector
  Dim cols;
  v1::ShardAxis axis;
  When when;
};

// In the order in which descriptions list them. A role may stand twice, with different conditions.
absl::Span<const TensorRole> TensorRoles();

// Whether a layer of that kind has it; layer is empty for roles outside the layers.
bool IsPresent(const TensorRole& role, const v1::Architecture& arch, const v1::LayerConfig& layer);

// "layers.12.wq" → "wq"; "output" stays.
absl::string_view RoleName(absl::string_view tensor_name);

struct ExpectedTensor {
  const TensorRole* role = nullptr;
  std::string name;            // canonical: "layers.3.wq"
  std::vector<int64_t> shape;  // row-major, outermost first
  v1::ShardAxis axis = v1::SHARD_AXIS_UNSPECIFIED;
  int layer = -1;
};

// Every tensor of the architecture: the embedding, then layer by layer, then norm and output head.
std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch);

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_TENSOR_ROLES_H_
