// Whether a StepPlan may be run: nothing in it is believed before this said so.
//
//   StepChecker checker(plan, vocab_size);
//   TESSERA_RETURN_IF_ERROR(checker.Check(step));
#ifndef TESSERA_WORKER_ENGINE_STEP_CHECK_H_
#define TESSERA_WORKER_ENGINE_STEP_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

// Threads: one caller at a time (it keeps a mark per KV block between calls).
class StepChecker {
 public:
  StepChecker(const v1::ShardPlan& plan, int32_t vocab_size);

  // INVALID_ARGUMENT naming step, chunk, field and the allowed range when: there is no chunk or
  // token, or more than agreed; a token id is outside the vocabulary; a position is outside
  // max_model_len; a block table is too short, names a block that does not exist, or shares one
  // with another chunk; the sampling numbers are out of range; the logits asked for exceed 1 GiB.
  absl::Status Check(const v1::StepPlan& step);

 private:
  absl::Status CheckChunk(const v1::SequenceChunk& chunk);
  absl::Status CheckBlocks(const v1::SequenceChunk& chunk);

  const int32_t vocab_size_;
  const int32_t block_tokens_;
  const int32_t num_blocks_;
  const int32_t max_model_len_;
  const int64_t max_tokens_;
  const int32_t max_chunks_;
  int64_t generation_ = 0;
  std::vector<int64_t> block_used_in_;  // per block: the last generation that named it
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_CHECK_H_
