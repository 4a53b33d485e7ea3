// Which tensors a decoder has, as rows of data: canonical name, its name in each format (that of
// the Llama family; families.h has what others call differently), shape, and how it is cut. Matching
// a file against the rows is the validation.
//
// Ownership: pure functions; the result refers to the caller's StoredTensors by index.
//
//   TESSERA_ASSIGN_OR_RETURN(auto table, MatchTensors(path, NameStyle::kGguf, arch, stored));
#ifndef TESSERA_WORKER_FILES_TENSOR_TABLE_H_
#define TESSERA_WORKER_FILES_TENSOR_TABLE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

enum class NameStyle { kCanonical, kGguf, kHuggingFace };

// One tensor that the architecture calls for.
struct ExpectedTensor {
  std::string name;         // canonical: "layers.3.wq"
  std::string source_name;  // in the file: "blk.3.attn_q.weight", "model.layers.3.self_attn..."
  std::vector<int64_t> shape;
  // Where several lie one after the other in the rows of one tensor of the file: that one's rows,
  // and which of them is this one's first.
  int64_t source_rows = 0;
  int64_t first_row = 0;
  v1::ShardAxis axis = v1::SHARD_AXIS_UNSPECIFIED;
  int layer = -1;
};

// Every tensor of the architecture, embedding first, then layer by layer, then the output.
std::vector<ExpectedTensor> ExpectedTensors(const v1::Architecture& arch, NameStyle style);

// model::CheckArchitecture of what a file says: its errors with "<path>: " before them.
absl::Status CheckArchitecture(absl::string_view path, const v1::Architecture& arch);

struct MatchedTensor {
  v1::TensorDescription description;
  size_t stored_index = 0;  // into the `stored` given to MatchTensors
  int64_t first_row = 0;    // of it, which is the tensor's row 0
  std::optional<size_t> scale_index;  // of F8_E4M3 alike: its rows' scales, or one for all
};

// Finds each expected tensor among the stored ones and checks shape and type. A tensor of the file
// that no row knows is refused (UNIMPLEMENTED): ignoring, say, a bias would give wrong answers.
// F8_E4M3 matrices have their scales beside them, as "..._scale": floats (), (1), (rows) or (rows,
// 1). resident_bytes is filled in, which depends on arch.ffn_granularity only through ResidentType.
absl::StatusOr<std::vector<MatchedTensor>> MatchTensors(absl::string_view path, NameStyle style,
                                                        const v1::Architecture& arch,
                                                        const std::vector<StoredTensor>& stored);

// A description of an expected tensor stored as `type`, resident_bytes included.
v1::TensorDescription Describe(const ExpectedTensor& expected, v1::DataType type,
                               const v1::Architecture& arch);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_TENSOR_TABLE_H_
