// A group's answer to a step is a peer's word: this is where it is doubted.
//
//   TESSERA_RETURN_IF_ERROR(CheckStepResult(plan, result, vocab_size));
#ifndef TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_
#define TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_

#include "absl/status/status.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// INTERNAL unless `result` answers `plan`: one token for each chunk with sampling and one block of
// logits for each chunk that asked, in plan order; token ids in [0, vocab_size) (vocab_size 0 = no
// upper bound); finite log probabilities, no more alternatives than asked for. Names the step, the
// sequence, what was expected and what came.
absl::Status CheckStepResult(const v1::StepPlan& plan, const v1::StepResult& result,
                             int vocab_size);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_RESULT_CHECK_H_
