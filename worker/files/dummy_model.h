// Made-up weights for a config.json as a ModelFile.
#ifndef TESSERA_WORKER_FILES_DUMMY_MODEL_H_
#define TESSERA_WORKER_FILES_DUMMY_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

// path: a folder with config.json, or the config itself. Takes the tokenizer beside it if any.
absl::StatusOr<std::unique_ptr<ModelFile>> OpenDummyModel(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_DUMMY_MODEL_H_
