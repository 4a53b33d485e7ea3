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
#include "tessera/v1/plan.pb.h"
#include "worker/engine/placeholder_tokens.h"
#include "worker/engine/sampling_check.h"

namespace tessera::worker {

// Threads: one caller at a time (it keeps marks per KV block and per token id between calls).
class StepChecker {
 public:
  StepChecker(const v1::ShardPlan& plan, int32_t vocab_size);

  // INVALID_ARGUMENT naming step, chunk, field and the allowed range when: there is no chunk or
  // token, or more than agreed; a token or prompt logprob id is outside the vocabulary (the -1 that
  // stands for a token still to come included: the leader fills it in first, or puts in its place a
  // placeholder for one of `before`, placeholder_tokens.h); a position is outside
  // max_model_len; a block table is too short or names a block that does not exist, or one twice,
  // or one that another chunk writes; a copy's destination is not written by exactly one chunk, or
  // is copied to twice; the numbers for sampling are out of range (sampling_check.h); prompt
  // logprob ids are not one per token; the logits asked for exceed 1 GiB.
  absl::Status Check(const v1::StepPlan& step, const PendingTokens& before = {});

  static constexpr int32_t kMaxPromptLogprobs = 20;

 private:
  // Which chunks of the step at hand name a block, told by stamps: chunk i of a step has the stamp
  // first_stamp_ + i, greater than those of all steps before.
  struct BlockUse {
    int64_t named_by = -1;    // the last chunk with the block in its table
    int64_t written_by = -1;  // the last chunk that writes to it
    int64_t copied_in = -1;   // first_stamp_ of the last step that copies to it
  };

  absl::Status CheckTotals(const v1::StepPlan& step) const;
  absl::Status CheckChunk(const v1::SequenceChunk& chunk, int64_t stamp,
                          const PendingTokens& before);
  absl::Status CheckTokens(const v1::SequenceChunk& chunk, const PendingTokens& before) const;
  absl::Status CheckBlocks(const v1::SequenceChunk& chunk, int64_t stamp);
  absl::Status UseBlock(int32_t block, bool writes, int64_t stamp);
  absl::Status CheckPromptLogprobs(const v1::SequenceChunk& chunk) const;
  absl::Status CheckCopies(const v1::StepPlan& step);
  absl::Status CheckCopy(const v1::BlockCopy& copy, const v1::StepPlan& step);

  const int32_t vocab_size_;
  const int32_t block_tokens_;
  const int32_t num_blocks_;
  const int32_t max_model_len_;
  const int64_t max_tokens_;
  const int32_t max_chunks_;
  SamplingChecker sampling_checker_;
  int64_t first_stamp_ = 0;
  std::vector<BlockUse> block_uses_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_CHECK_H_
