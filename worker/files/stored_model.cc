#include "worker/files/stored_model.h"

#include <array>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/enum_names.h"
#include "worker/files/slice_reader.h"

namespace tessera::worker {
namespace {

std::string MostlyType(const std::vector<MatchedTensor>& matched,
                       const std::vector<StoredTensor>& stored) {
  std::array<uint64_t, v1::DataType_ARRAYSIZE> bytes = {};
  for (const MatchedTensor& tensor : matched) {
    // The first of those that share a stored one counts for all.
    if (tensor.first_row > 0) continue;
    bytes[tensor.description.type()] += stored[tensor.stored_index].bytes;
  }
  int most = v1::DATA_TYPE_F32;
  for (int type = 0; type < v1::DataType_ARRAYSIZE; ++type) {
    if (bytes[type] > bytes[most]) most = type;
  }
  return model::TypeName(most);
}

}  // namespace

std::unique_ptr<ModelFile> StoredModel::Create(v1::ModelDescription description,
                                               std::vector<MatchedTensor> matched,
                                               std::vector<StoredTensor> stored,
                                               std::vector<std::unique_ptr<MappedFile>> files) {
  std::unique_ptr<StoredModel> model(new StoredModel);
  model->description_ = std::move(description);
  model->files_ = std::move(files);
  model->description_.set_quantization(MostlyType(matched, stored));
  for (MatchedTensor& tensor : matched) {
    model->index_.emplace(tensor.description.name(), static_cast<int>(model->tensors_.size()));
    *model->description_.add_tensors() = std::move(tensor.description);
    model->tensors_.push_back(stored[tensor.stored_index]);
    model->first_rows_.push_back(tensor.first_row);
    auto& scale = model->scales_.emplace_back();
    if (tensor.scale_index) scale = stored[*tensor.scale_index];
  }
  // Headers and vocabularies have been read; their pages need not stay.
  for (const auto& file : model->files_) file->Release(file->all());
  return model;
}

absl::Status StoredModel::ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                                    int64_t col_begin, int64_t col_end, void* out) const {
  const auto it = index_.find(std::string(tensor));
  if (it == index_.end()) {
    return absl::InternalError(absl::StrCat(tensor, ": no such tensor in ", description_.name()));
  }
  const v1::TensorDescription& about = description_.tensors(it->second);
  const kernels::DType resident = ResidentType(about, description_.architecture());
  Slice slice = {row_begin, row_end, col_begin, col_end};
  TESSERA_RETURN_IF_ERROR(CheckSlice(about, resident, slice));
  slice.row_begin += first_rows_[it->second];
  slice.row_end += first_rows_[it->second];
  const auto& scale = scales_[it->second];
  auto* const bytes = static_cast<uint8_t*>(out);
  ReadStoredSlice(tensors_[it->second], scale ? &*scale : nullptr, resident, slice, bytes);
  if (resident != kernels::DType::kF8E4M3) return absl::OkStatus();
  return CheckF8Rows(tensor, row_end - row_begin, col_end - col_begin, bytes);
}

std::string ModelName(const std::string& path) {
  std::filesystem::path plain = std::filesystem::path(path).lexically_normal();
  if (!plain.has_filename()) plain = plain.parent_path();  // "folder/"
  if (plain.filename() == ".") plain = std::filesystem::absolute(plain).parent_path();
  return plain.extension() == ".gguf" ? plain.stem().string() : plain.filename().string();
}

}  // namespace tessera::worker
