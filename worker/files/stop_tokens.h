// Which token ids end a generation, beyond the one the file calls eos.
#ifndef TESSERA_WORKER_FILES_STOP_TOKENS_H_
#define TESSERA_WORKER_FILES_STOP_TOKENS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

// Whether a token of that text is a well-known end: <|im_end|>, <|eot_id|>, ...
bool IsEndText(absl::string_view text);

// Sets tokenizer->stop_ids: eos_id, the ids `named` by the files, and every control token whose text
// is a well-known end; ascending, each once. Ids must be valid.
void SetStopIds(const std::vector<int32_t>& named, v1::TokenizerDescription* tokenizer);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_STOP_TOKENS_H_
