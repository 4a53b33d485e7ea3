// Whether a token may be sampled as a coordinator asks: the numbers of SamplingParams and
// LogitsState.
//
//   SamplingChecker checker(vocab_size, max_model_len);
//   TESSERA_RETURN_IF_ERROR(checker.Check(chunk.sampling(), chunk.logits_state()));
#ifndef TESSERA_WORKER_ENGINE_SAMPLING_CHECK_H_
#define TESSERA_WORKER_ENGINE_SAMPLING_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/engine/stamped_set.h"

namespace tessera::worker {

// INVALID_ARGUMENT "<field>: expected ..., got ...".
absl::Status BadField(absl::string_view field, absl::string_view expected,
                      absl::string_view actual);

// OK when 0 <= id < vocab_size.
absl::Status CheckTokenId(absl::string_view field, int32_t id, int32_t vocab_size);

// Threads: one caller at a time (it keeps a stamp per token id).
class SamplingChecker {
 public:
  SamplingChecker(int32_t vocab_size, int32_t max_model_len)
      : vocab_size_(vocab_size), max_model_len_(max_model_len), named_(vocab_size) {}

  // INVALID_ARGUMENT naming the field when a number is not finite or out of range, an id is outside
  // the vocabulary or twice where ids are distinct, the mask has the wrong length, or mask and bans
  // leave nothing to sample.
  absl::Status Check(const v1::SamplingParams& params, const v1::LogitsState& state);

 private:
  absl::Status CheckBias(const v1::SamplingParams& params);
  absl::Status CheckIds(const v1::LogitsState& state);
  absl::Status CheckAllowed(const v1::LogitsState& state);

  const int32_t vocab_size_;
  const int32_t max_model_len_;
  StampedSet named_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_SAMPLING_CHECK_H_
