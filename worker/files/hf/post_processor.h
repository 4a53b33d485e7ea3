// The post_processor of a tokenizer.json: which special tokens go around a text.
#ifndef TESSERA_WORKER_FILES_HF_POST_PROCESSOR_H_
#define TESSERA_WORKER_FILES_HF_POST_PROCESSOR_H_

#include <string>

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Sets add_bos and bos_id for a TemplateProcessing with one token before the text, add_eos and
// eos_id for one after it. tokenizer->tokens must be there: ids are checked against them.
absl::Status ParsePostProcessor(const std::string& where, const Json& root,
                                v1::TokenizerDescription* tokenizer);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_POST_PROCESSOR_H_
