// tokenizer.* keys of a GGUF file → TokenizerDescription and chat template.
#ifndef TESSERA_WORKER_FILES_GGUF_TOKENIZER_H_
#define TESSERA_WORKER_FILES_GGUF_TOKENIZER_H_

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/gguf/value.h"

namespace tessera::worker {

// Fills in description->tokenizer and ->chat_template; without tokenizer.ggml.model there is none.
// description->architecture must be set: every id must be below its vocabulary size. Where the file
// is silent on BOS and the like, llama.cpp's defaults hold.
absl::Status ReadGgufTokenizer(const GgufMetadata& metadata, v1::ModelDescription* description);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_TOKENIZER_H_
