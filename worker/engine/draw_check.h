// Whether a token may be drawn as a coordinator asks: the numbers of SamplingParams and DrawState.
//
//   DrawChecker checker(vocab_size, max_model_len);
//   TESSERA_RETURN_IF_ERROR(checker.Check(chunk.sampling(), chunk.draw()));
#ifndef TESSERA_WORKER_ENGINE_DRAW_CHECK_H_
#define TESSERA_WORKER_ENGINE_DRAW_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/engine/marks.h"

namespace tessera::worker {

// INVALID_ARGUMENT "<field>: expected ..., got ...".
absl::Status BadField(absl::string_view field, absl::string_view expected,
                      absl::string_view actual);

// OK when 0 <= id < vocab_size.
absl::Status CheckTokenId(absl::string_view field, int32_t id, int32_t vocab_size);

// Threads: one caller at a time (it keeps a mark per token id).
class DrawChecker {
 public:
  DrawChecker(int32_t vocab_size, int32_t max_model_len)
      : vocab_size_(vocab_size), max_model_len_(max_model_len), named_(vocab_size) {}

  // INVALID_ARGUMENT naming the field when a number is not finite or out of range, an id is outside
  // the vocabulary or twice where ids are distinct, the mask has the wrong length, or mask and bans
  // leave nothing to draw.
  absl::Status Check(const v1::SamplingParams& params, const v1::DrawState& draw);

 private:
  absl::Status CheckBias(const v1::SamplingParams& params);
  absl::Status CheckIds(const v1::DrawState& draw);
  absl::Status CheckAllowed(const v1::DrawState& draw);

  const int32_t vocab_size_;
  const int32_t max_model_len_;
  Marks named_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_DRAW_CHECK_H_
