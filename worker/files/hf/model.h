// A Hugging Face folder (config.json, *.safetensors, tokenizer.json) as a ModelFile.
#ifndef TESSERA_WORKER_FILES_HF_MODEL_H_
#define TESSERA_WORKER_FILES_HF_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

absl::StatusOr<std::unique_ptr<ModelFile>> OpenHfModel(const std::string& folder);

// Everything about the model in `folder` but its tensors. Shared with the dummy weights.
absl::StatusOr<v1::ModelDescription> DescribeHfFolder(const std::string& folder,
                                                      const std::string& config_path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_MODEL_H_
