// One tensor as it lies in a file, whatever the format, and the element types files use.
//
// Ownership: borrows its MappedFile. The readers that make one have checked that the range lies in
// the file and is exactly as long as shape and type ask for.
#ifndef TESSERA_WORKER_FILES_STORED_TENSOR_H_
#define TESSERA_WORKER_FILES_STORED_TENSOR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kernels/tensor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/mapped_file.h"

namespace tessera::worker {

struct StoredTensor {
  std::string name;  // as the file names it
  // UNSPECIFIED: a type that can be measured but not computed with (F64, I64, ...).
  v1::DataType type = v1::DATA_TYPE_UNSPECIFIED;
  std::string type_name;       // as the format names it
  std::vector<int64_t> shape;  // row-major, outermost first
  const MappedFile* file = nullptr;
  uint64_t offset = 0;  // of the file
  uint64_t bytes = 0;

  absl::Span<const uint8_t> data() const { return file->all().subspan(offset, bytes); }
};

// How elements of a type are packed in files: `bytes` for every `elements` along a row.
struct StorageBlock {
  int elements = 0;
  int bytes = 0;
};
// type: one of the named types, not UNSPECIFIED.
StorageBlock StorageBlockOf(v1::DataType type);
bool IsQuantized(v1::DataType type);

// The 32-wide form that the same elements have once loaded.
kernels::DType RepackedType(v1::DataType type);

// Bytes of a tensor of this shape; nullopt when it overflows or its rows are not whole blocks.
std::optional<uint64_t> StoredBytes(absl::Span<const int64_t> shape, StorageBlock block);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_STORED_TENSOR_H_
