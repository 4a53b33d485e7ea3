#include "worker/files/slice_reader.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/files/repack.h"

namespace tessera::worker {
namespace {

constexpr int64_t kWindowBytes = int64_t{8} << 20;

}  // namespace

absl::Status CheckSlice(const v1::TensorDescription& tensor, kernels::DType resident,
                        const Slice& slice) {
  const int64_t cols = tensor.shape(tensor.shape_size() - 1);
  const int64_t rows = tensor.shape_size() == 2 ? tensor.shape(0) : 1;
  const int block = kernels::BlockElements(resident);
  const bool inside = 0 <= slice.row_begin && slice.row_begin <= slice.row_end &&
                      slice.row_end <= rows && 0 <= slice.col_begin &&
                      slice.col_begin <= slice.col_end && slice.col_end <= cols;
  if (inside && slice.col_begin % block == 0 && slice.col_end % block == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(
      tensor.name(), ": expected a slice of (", rows, ", ", cols, ") with columns in multiples of ",
      block, ", asked for rows [", slice.row_begin, ", ", slice.row_end, ") columns [",
      slice.col_begin, ", ", slice.col_end, ")"));
}

void ReadStoredSlice(const StoredTensor& tensor, kernels::DType resident, const Slice& slice,
                     uint8_t* out) {
  const int64_t cols = tensor.shape.back();
  const int64_t rows = slice.row_end - slice.row_begin;
  const StorageBlock block = StorageBlockOf(tensor.type);
  const int64_t row_bytes = cols / block.elements * block.bytes;
  const auto out_row_bytes =
      static_cast<int64_t>(kernels::RowBytes(resident, slice.col_end - slice.col_begin));
  const bool convert = resident != RepackedType(tensor.type);
  if (rows == 0 || out_row_bytes == 0) return;

  // `out` may stand at any address, so float32 rows are made beside it.
  std::vector<float> floats(convert ? static_cast<size_t>(slice.col_end - slice.col_begin) : 0);
  const auto data = tensor.data();
  const int64_t rows_per_window = std::max<int64_t>(1, kWindowBytes / row_bytes);
  for (int64_t begin = slice.row_begin; begin < slice.row_end; begin += rows_per_window) {
    const int64_t end = std::min(slice.row_end, begin + rows_per_window);
    const auto window = data.subspan(begin * row_bytes, (end - begin) * row_bytes);
    tensor.file->Prefetch(window);
    for (int64_t row = begin; row < end; ++row, out += out_row_bytes) {
      const uint8_t* source = data.data() + row * row_bytes;
      if (convert) {
        DequantizeRow(tensor.type, source, slice.col_begin, slice.col_end, floats.data());
        std::memcpy(out, floats.data(), static_cast<size_t>(out_row_bytes));
      } else {
        RepackRow(tensor.type, source, slice.col_begin, slice.col_end, out);
      }
    }
    tensor.file->Release(window);
  }
}

}  // namespace tessera::worker
