#include "worker/files/fp8_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/e4m3.h"
#include "proto/base/status_macros.h"
#include "proto/model/enum_names.h"
#include "worker/files/repack.h"
#include "worker/files/slice_reader.h"

namespace tessera::worker {
namespace {

using kernels::DType;

constexpr int64_t kWindowBytes = 1 << 20;  // of rows as they are before

bool IsRounded(const v1::TensorDescription& tensor) {
  return tensor.layer() >= 0 && tensor.shape_size() == 2;
}

// Columns [begin, end) of the row as kF8E4M3; false: it holds what is no finite number.
bool RoundRow(const std::vector<float>& row, int64_t begin, int64_t end, uint8_t* out) {
  float largest = 0;
  for (const float value : row) {
    if (!std::isfinite(value)) return false;
    largest = std::max(largest, std::fabs(value));
  }
  // Of weights so small nothing is left but zeros; their inverse would not be finite.
  const float scale = largest < 1e-30f ? 1.0f : largest / kernels::kE4M3Max;
  std::memcpy(out, &scale, sizeof(scale));
  out += sizeof(scale);
  for (int64_t c = begin; c < end; ++c) *out++ = kernels::FloatToE4M3(row[c] / scale);
  return true;
}

class Fp8Model : public ModelFile {
 public:
  explicit Fp8Model(std::unique_ptr<ModelFile> base)
      : base_(std::move(base)), description_(base_->description()) {
    description_.set_quantization(model::TypeName(v1::DATA_TYPE_F8_E4M3));
    for (int i = 0; i < description_.tensors_size(); ++i) {
      v1::TensorDescription& tensor = *description_.mutable_tensors(i);
      index_.emplace(tensor.name(), i);
      if (!IsRounded(tensor)) continue;
      tensor.set_type(v1::DATA_TYPE_F8_E4M3);
      tensor.set_resident_bytes(tensor.shape(0) * static_cast<int64_t>(kernels::RowBytes(
                                                      DType::kF8E4M3, tensor.shape(1))));
    }
  }

  const v1::ModelDescription& description() const override { return description_; }

  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override {
    const auto it = index_.find(std::string(tensor));
    if (it == index_.end() || !IsRounded(description_.tensors(it->second)) ||
        base_->description().tensors(it->second).type() == v1::DATA_TYPE_F8_E4M3) {
      return base_->ReadSlice(tensor, row_begin, row_end, col_begin, col_end, out);
    }
    const v1::TensorDescription& about = base_->description().tensors(it->second);
    TESSERA_RETURN_IF_ERROR(CheckSlice(description_.tensors(it->second), DType::kF8E4M3,
                                       {row_begin, row_end, col_begin, col_end}));
    const int64_t cols = about.shape(1);
    const auto row_bytes =
        static_cast<int64_t>(kernels::RowBytes(RepackedType(about.type()), cols));
    const int64_t window = std::max<int64_t>(1, kWindowBytes / row_bytes);
    std::vector<uint8_t> rows(
        static_cast<size_t>(std::min(window, row_end - row_begin) * row_bytes));
    std::vector<float> row(static_cast<size_t>(cols));
    auto* target = static_cast<uint8_t*>(out);
    for (int64_t first = row_begin; first < row_end; first += window) {
      const int64_t end = std::min(row_end, first + window);
      TESSERA_RETURN_IF_ERROR(base_->ReadSlice(tensor, first, end, 0, cols, rows.data()));
      for (int64_t r = first; r < end; ++r) {
        DequantizeRow(about.type(), &rows[static_cast<size_t>((r - first) * row_bytes)], 0, cols,
                      row.data());
        if (!RoundRow(row, col_begin, col_end, target)) {
          return absl::InvalidArgumentError(
              absl::StrCat(tensor, ": expected finite weights, row ", r,
                           " has others, which 8-bit floats cannot hold"));
        }
        target += kernels::RowBytes(DType::kF8E4M3, col_end - col_begin);
      }
    }
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<ModelFile> base_;
  v1::ModelDescription description_;
  std::unordered_map<std::string, int> index_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFile>> RoundToFp8(std::unique_ptr<ModelFile> file) {
  for (const v1::TensorDescription& tensor : file->description().tensors()) {
    const v1::DataType type = tensor.type();
    if (IsRounded(tensor) && type != v1::DATA_TYPE_F32 && type != v1::DATA_TYPE_F16 && type != v1::DATA_TYPE_BF16 &&
        type != v1::DATA_TYPE_F8_E4M3) {
      return absl::InvalidArgumentError(
          absl::StrCat("--quantization fp8: expected weights of F32, F16 or BF16; ", tensor.name(),
                       " is ", model::TypeName(type), ", quantized already"));
    }
  }
  return std::make_unique<Fp8Model>(std::move(file));
}

}  // namespace tessera::worker
