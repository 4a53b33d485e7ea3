#include "worker/files/dummy_model.h"

#include <filesystem>
#include <system_error>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/enum_names.h"
#include "worker/files/dummy_weights.h"
#include "worker/files/hf/model.h"
#include "worker/files/slice_reader.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {
namespace {

class DummyModel : public ModelFile {
 public:
  explicit DummyModel(v1::ModelDescription description) : description_(std::move(description)) {
    const v1::Architecture& arch = description_.architecture();
    for (const ExpectedTensor& expected : ExpectedTensors(arch, NameStyle::kCanonical)) {
      index_.emplace(expected.name, description_.tensors_size());
      *description_.add_tensors() = Describe(expected, v1::DATA_TYPE_F32, arch);
    }
    description_.set_weight_format("dummy");
    description_.set_quantization(model::TypeName(v1::DATA_TYPE_F32));
  }

  const v1::ModelDescription& description() const override { return description_; }

  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override {
    const auto it = index_.find(std::string(tensor));
    if (it == index_.end()) {
      return absl::InternalError(absl::StrCat(tensor, ": no such tensor in ", description_.name()));
    }
    const v1::TensorDescription& about = description_.tensors(it->second);
    const Slice slice = {row_begin, row_end, col_begin, col_end};
    TESSERA_RETURN_IF_ERROR(CheckSlice(about, kernels::DType::kF32, slice));
    MakeDummySlice(about, description_.architecture().num_layers(), slice,
                   static_cast<uint8_t*>(out));
    return absl::OkStatus();
  }

 private:
  v1::ModelDescription description_;
  std::unordered_map<std::string, int> index_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFile>> OpenDummyModel(const std::string& path) {
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(path, error);
  const std::string config = is_folder ? absl::StrCat(path, "/config.json") : path;
  const std::string parent = std::filesystem::path(config).parent_path().string();
  const std::string folder = absl::StrCat(parent.empty() ? "." : parent);
  TESSERA_ASSIGN_OR_RETURN(auto description, DescribeHfFolder(folder, config));
  return std::make_unique<DummyModel>(std::move(description));
}

}  // namespace tessera::worker
