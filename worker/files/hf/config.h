// config.json of a Hugging Face folder → Architecture, with the defaults transformers has for keys
// that are absent. Reads what transformers 4 wrote (rope_theta, rope_scaling) and what 5 writes
// (rope_parameters).
#ifndef TESSERA_WORKER_FILES_HF_CONFIG_H_
#define TESSERA_WORKER_FILES_HF_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// path: for messages. Sizes must be there; what would change the arithmetic and is not implemented
// (other architectures, activations, biases, rope types) is UNIMPLEMENTED.
absl::StatusOr<v1::Architecture> ParseHfConfig(const std::string& path, const Json& config);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_CONFIG_H_
