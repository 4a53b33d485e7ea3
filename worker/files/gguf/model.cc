#include "worker/files/gguf/model.h"

#include "proto/base/status_macros.h"
#include "worker/files/gguf/architecture.h"
#include "worker/files/gguf/reader.h"
#include "worker/files/gguf/tokenizer.h"
#include "worker/files/stored_model.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {

absl::StatusOr<std::unique_ptr<ModelFile>> OpenGgufModel(const std::string& path) {
  TESSERA_ASSIGN_OR_RETURN(GgufFile gguf, ReadGgufFile(path));
  v1::ModelDescription description;
  description.set_name(ModelName(path));
  description.set_weight_format("gguf");
  TESSERA_ASSIGN_OR_RETURN(*description.mutable_architecture(), ReadGgufArchitecture(gguf));
  TESSERA_RETURN_IF_ERROR(CheckArchitecture(path, description.architecture()));
  TESSERA_ASSIGN_OR_RETURN(
      auto matched,
      MatchTensors(path, NameStyle::kGguf, description.architecture(), gguf.tensors));
  TESSERA_RETURN_IF_ERROR(ReadGgufTokenizer(gguf.metadata, &description));
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(gguf.file));
  return StoredModel::Create(std::move(description), std::move(matched), std::move(gguf.tensors),
                             std::move(files));
}

}  // namespace tessera::worker
