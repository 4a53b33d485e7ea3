// The rotary embedding of a config.json: base frequency and scaling, in either generation of keys.
//
//   transformers 4:  "rope_theta": T, "rope_scaling": null or {"type" or "rope_type": K, ...}
//   transformers 5:  "rope_parameters": {"rope_theta": T, "rope_type": K, ...}
#ifndef TESSERA_WORKER_FILES_HF_ROPE_H_
#define TESSERA_WORKER_FILES_HF_ROPE_H_

#include "absl/status/statusor.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/families.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Needs head_dim and max_positions of `numbers`: a part of a head may turn, and yarn falls back to
// the context's length.
absl::StatusOr<v1::RopeConfig> ParseHfRope(const ConfigReader& read, const Family& family,
                                           const ModelNumbers& numbers);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_ROPE_H_
