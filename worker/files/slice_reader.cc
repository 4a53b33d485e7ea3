#include "worker/files/slice_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/e4m3.h"
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

absl::Status CheckF8Rows(absl::string_view name, int64_t rows, int64_t cols, const uint8_t* data) {
  for (int64_t row = 0; row < rows; ++row) {
    float scale;
    std::memcpy(&scale, data, sizeof(scale));
    data += sizeof(scale);
    bool finite = std::isfinite(scale);
    for (int64_t col = 0; col < cols; ++col) finite &= !kernels::IsE4M3Nan(data[col]);
    data += cols;
    if (!finite) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": expected finite weights and scales, a row of the file has others"));
    }
  }
  return absl::OkStatus();
}

void ReadStoredSlice(const StoredTensor& tensor, const StoredTensor* scale, kernels::DType resident,
                     const Slice& slice, uint8_t* out) {
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
        if (scale != nullptr) {
          const bool each = scale->bytes > uint64_t(StorageBlockOf(scale->type).bytes);
          float value;
          DequantizeRow(scale->type, scale->data().data(), each ? row : 0, each ? row + 1 : 1,
                        &value);
          std::memcpy(out, &value, sizeof(value));
        }
        RepackRow(tensor.type, source, slice.col_begin, slice.col_end,
                  out + kernels::RowHeaderBytes(resident));
      }
    }
    tensor.file->Release(window);
  }
}

}  // namespace tessera::worker
