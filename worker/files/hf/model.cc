#include "worker/files/hf/model.h"

#include "proto/base/status_macros.h"
#include "worker/files/hf/config.h"
#include "worker/files/hf/tokenizer.h"
#include "worker/files/json.h"
#include "worker/files/hf/safetensors_reader.h"
#include "worker/files/stored_model.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {

absl::StatusOr<v1::ModelDescription> DescribeHfFolder(const std::string& folder,
                                                      const std::string& config_path) {
  TESSERA_ASSIGN_OR_RETURN(const Json config, ReadJsonFile(config_path, kMaxConfigBytes));
  v1::ModelDescription description;
  description.set_name(ModelName(folder));
  TESSERA_ASSIGN_OR_RETURN(*description.mutable_architecture(),
                           ParseHfConfig(config_path, config));
  TESSERA_RETURN_IF_ERROR(CheckArchitecture(config_path, description.architecture()));
  TESSERA_RETURN_IF_ERROR(ReadHfTokenizer(folder, config, &description));
  return description;
}

absl::StatusOr<std::unique_ptr<ModelFile>> OpenHfModel(const std::string& folder) {
  TESSERA_ASSIGN_OR_RETURN(auto description, DescribeHfFolder(folder, folder + "/config.json"));
  description.set_weight_format("safetensors");
  TESSERA_ASSIGN_OR_RETURN(SafetensorsModel model, ReadSafetensorsFolder(folder));
  TESSERA_ASSIGN_OR_RETURN(auto matched,
                           MatchTensors(folder, NameStyle::kHuggingFace,
                                        description.architecture(), model.tensors));
  return StoredModel::Create(std::move(description), std::move(matched), std::move(model.tensors),
                             std::move(model.files));
}

}  // namespace tessera::worker
