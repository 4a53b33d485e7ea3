// The rotary embedding of a GGUF file: <family>.rope.* keys and the optional rope_freqs.weight.
#ifndef TESSERA_WORKER_FILES_GGUF_ROPE_H_
#define TESSERA_WORKER_FILES_GGUF_ROPE_H_

#include <string>

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/gguf/value.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

// Sets theta and scaling of attention->rope; attention->head_dim must be set. prefix: "llama.".
// frequency_factors: rope_freqs.weight, or null when the file has none.
absl::Status ReadGgufRope(const GgufMetadata& metadata, const std::string& prefix,
                          const StoredTensor* frequency_factors, int max_positions,
                          v1::AttentionConfig* attention);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_ROPE_H_
