// A GGUF file as a ModelFile.
#ifndef TESSERA_WORKER_FILES_GGUF_MODEL_H_
#define TESSERA_WORKER_FILES_GGUF_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

absl::StatusOr<std::unique_ptr<ModelFile>> OpenGgufModel(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_MODEL_H_
