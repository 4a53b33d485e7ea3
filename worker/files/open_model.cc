// Where a path becomes a model; the only file that knows every format.
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"
#include "worker/files/dummy_model.h"
#include "worker/files/file_errors.h"
#include "worker/files/fp8_model.h"
#include "worker/files/gguf/model.h"
#include "worker/files/hf/model.h"
#include "worker/files/mapped_file.h"
#include "worker/files/model_file.h"

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
  // By the rules of the coordinator, which would refuse it only once all ranks are there.
  const absl::Status described = model::CheckDescription(file->description());
  if (!described.ok()) return Annotate(described, path);
  if (quantization == Quantization::kAsStored) return file;
  return RoundToFp8(std::move(file));
}

}  // namespace tessera::worker
