// The rotary embedding of a config.json: base frequency and scaling, in either generation of keys.
//
//   transformers 4:  "rope_theta": T, "rope_scaling": null or {"type" or "rope_type": K, ...}
//   transformers 5:  "rope_parameters": {"rope_theta": T, "rope_type": K, ...}
#ifndef TESSERA_WORKER_FILES_HF_ROPE_H_
#define TESSERA_WORKER_FILES_HF_ROPE_H_

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Sets theta and scaling. max_positions: the architecture's, yarn falls back to it.
absl::Status ParseHfRope(const ConfigReader& read, int max_positions, v1::RopeConfig* rope);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_ROPE_H_
