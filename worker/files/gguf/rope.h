// The rotary embedding of a GGUF file: <family>.rope.* keys and the optional rope_freqs.weight.
#ifndef TESSERA_WORKER_FILES_GGUF_ROPE_H_
#define TESSERA_WORKER_FILES_GGUF_ROPE_H_

#include <string>

#include "absl/status/statusor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/families.h"
#include "worker/files/gguf/value.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

// Needs head_dim and max_positions of `numbers`. prefix: "llama.". frequency_factors:
// rope_freqs.weight, or null when the file has none.
absl::StatusOr<v1::RopeConfig> ReadGgufRope(const GgufMetadata& metadata,
                                            const std::string& prefix, const Family& family,
                                            const StoredTensor* frequency_factors,
                                            const ModelNumbers& numbers);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_ROPE_H_
