#include "worker/files/model_file.h"

#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "proto/wire/status_macros.h"
#include "worker/files/dummy_model.h"
#include "worker/files/file_errors.h"
#include "worker/files/fp8_model.h"
#include "worker/files/gguf_model.h"
#include "worker/files/hf_model.h"
#include "worker/files/mapped_file.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {
namespace {

namespace fs = std::filesystem;

bool StartsAsGguf(const std::string& path) {
  const auto file = MappedFile::Open(path);
  return file.ok() && (*file)->size() >= 4 && std::memcmp((*file)->all().data(), "GGUF", 4) == 0;
}

absl::StatusOr<LoadFormat> DetectFormat(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) {
    if (fs::exists(path + "/config.json", error)) return LoadFormat::kSafetensors;
    return absl::NotFoundError(absl::StrCat(
        path, ": expected a folder with config.json and *.safetensors, found no config.json"));
  }
  if (!fs::exists(status)) return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
  if (fs::path(path).extension() == ".gguf" || StartsAsGguf(path)) return LoadFormat::kGguf;
  return FileError(path, "expected a .gguf file, or a folder with config.json and *.safetensors");
}

}  // namespace

absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view name) {
  if (name == "auto") return LoadFormat::kAuto;
  if (name == "gguf") return LoadFormat::kGguf;
  if (name == "safetensors") return LoadFormat::kSafetensors;
  if (name == "dummy") return LoadFormat::kDummy;
  return absl::InvalidArgumentError(absl::StrCat(
      "load format: expected auto, gguf, safetensors or dummy, found \"", Printable(name), "\""));
}

kernels::DType ResidentType(const v1::TensorDescription& tensor, const v1::Architecture& arch) {
  if (tensor.shape_size() < 2) return kernels::DType::kF32;
  const bool cut_inside_blocks =
      tensor.axis() == v1::Q_HEAD_COLS && arch.head_dim() % 32 != 0 && IsQuantized(tensor.type());
  return cut_inside_blocks ? kernels::DType::kF32 : RepackedType(tensor.type());
}

absl::StatusOr<Quantization> ParseQuantization(absl::string_view name) {
  if (name.empty()) return Quantization::kAsStored;
  if (name == "fp8") return Quantization::kFp8;
  return absl::InvalidArgumentError(
      absl::StrCat("quantization: expected fp8, found \"", Printable(name), "\""));
}

namespace {

absl::StatusOr<std::unique_ptr<ModelFile>> OpenAsStored(const std::string& path,
                                                        LoadFormat format) {
  if (format == LoadFormat::kAuto) {
    TESSERA_ASSIGN_OR_RETURN(format, DetectFormat(path));
  }
  switch (format) {
    case LoadFormat::kGguf:
      return OpenGgufModel(path);
    case LoadFormat::kSafetensors:
      return OpenHfModel(path);
    default:
      return OpenDummyModel(path);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFile>> OpenModel(const std::string& path, LoadFormat format,
                                                     Quantization quantization) {
  TESSERA_ASSIGN_OR_RETURN(auto file, OpenAsStored(path, format));
  if (quantization == Quantization::kAsStored) return file;
  return RoundToFp8(std::move(file));
}

}  // namespace tessera::worker
