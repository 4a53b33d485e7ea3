// tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja of a Hugging
// Face folder → TokenizerDescription and chat template.
#ifndef TESSERA_WORKER_FILES_HF_TOKENIZER_H_
#define TESSERA_WORKER_FILES_HF_TOKENIZER_H_

#include <string>

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Fills in description->tokenizer and ->chat_template. Without a tokenizer.json only the special ids
// of config.json are known, and the kind stays unspecified. `config`: the parsed config.json.
absl::Status ReadHfTokenizer(const std::string& folder, const Json& config,
                             v1::ModelDescription* description);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_TOKENIZER_H_
