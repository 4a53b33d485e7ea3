// In the place of worker/files/open_model.cc, whose other formats come with a JSON parser.
#include "worker/files/fp8_model.h"
#include "worker/files/gguf/model.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

absl::StatusOr<std::unique_ptr<ModelFile>> OpenModel(const std::string& path, LoadFormat /*format*/,
                                                     Quantization quantization) {
  auto file = OpenGgufModel(path);
  if (!file.ok() || quantization == Quantization::kAsStored) return file;
  return RoundToFp8(*std::move(file));
}

}  // namespace tessera::worker
