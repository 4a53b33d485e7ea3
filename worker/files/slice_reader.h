// Rows and columns of one stored tensor, converted, with a bounded window of the file in memory.
#ifndef TESSERA_WORKER_FILES_SLICE_READER_H_
#define TESSERA_WORKER_FILES_SLICE_READER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/tensor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

// Half-open. A vector is one row.
struct Slice {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;
};

// INTERNAL, naming the tensor, for a slice outside it or columns that are not whole blocks of
// `resident`: the caller's plan is wrong, not the file.
absl::Status CheckSlice(const v1::TensorDescription& tensor, kernels::DType resident,
                        const Slice& slice);

// Writes the slice, which CheckSlice accepted, to `out` as `resident`: RepackedType of the stored
// type, or kF32. scale: of F8_E4M3 only, its rows' scales, or one for all. Pages of the file are
// given back every 8 MB of it.
void ReadStoredSlice(const StoredTensor& tensor, const StoredTensor* scale, kernels::DType resident,
                     const Slice& slice, uint8_t* out);

// Of rows of kF8E4M3 that have been read: INVALID_ARGUMENT for scales and weights that are no
// finite numbers.
absl::Status CheckF8Rows(absl::string_view name, int64_t rows, int64_t cols, const uint8_t* data);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_SLICE_READER_H_
