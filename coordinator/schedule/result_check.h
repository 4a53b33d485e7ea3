// A group's answer to a step is a peer's word: this is where it is doubted.
//
//   TESSERA_RETURN_IF_ERROR(CheckStepResult(step_id, expected, result, vocab_size));
#ifndef TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_
#define TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// What a chunk of a plan asked for; all that has to be remembered of it until its result is here.
struct ExpectedChunk {
  int64_t sequence_id = 0;
  int start_position = 0;
  int tokens = 0;
  bool samples = false;
  int num_logprobs = 0;  // of SamplingParams
  bool logits = false;
  std::vector<int32_t> prompt_logprob_ids = {};  // the prompt_logprob_ids that are not -1
  int num_prompt_logprobs = 0;
};

// INTERNAL unless `result` answers the step: one token for each chunk that samples, one block of
// logits for each that asked, one list of prompt log probabilities for each that wants some, in
// plan order; token ids in [0, vocab_size) (vocab_size 0 = no upper bound); finite log
// probabilities, no more alternatives than asked for; vocab ranks from 1. Names the step, the
// sequence, what was expected and what came.
absl::Status CheckStepResult(int64_t step_id, absl::Span<const ExpectedChunk> expected,
                             const v1::StepResult& result, int vocab_size);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_
