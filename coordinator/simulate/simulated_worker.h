// What a worker group computes, without the arithmetic: a KV cache that stores what the plans tell
// it to, and SimulatedModel on top of it. A sequence whose blocks were lost, shared or reordered
// gets other tokens than the model says, and a plan that breaks the protocol is refused.
//
// Not thread-safe.
//
//   SimulatedWorker worker({.num_blocks = 100, .block_tokens = 16});
//   TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, worker.Execute(plan));
#ifndef TESSERA_COORDINATOR_SIMULATE_SIMULATED_WORKER_H_
#define TESSERA_COORDINATOR_SIMULATE_SIMULATED_WORKER_H_

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/cluster.pb.h"
#include "coordinator/simulate/simulated_model.h"

namespace tessera::testing {

struct SimulatedWorkerOptions {
  int num_blocks = 0;
  int block_tokens = 16;
  SimulatedModel model = {};
  // Reads every position that a chunk attends to, and looks for blocks written by one chunk and
  // standing in another: linear in the context. Off: in the chunk's own tokens.
  bool thorough = true;
};

class SimulatedWorker {
 public:
  explicit SimulatedWorker(const SimulatedWorkerOptions& options);

  // Plans in the order sent. FAILED_PRECONDITION naming the step, the sequence and what is wrong.
  absl::StatusOr<v1::StepResult> Execute(const v1::StepPlan& plan);

 private:
  struct Slot {
    uint64_t state = 0;  // of the sequence up to and with this position's token
    int32_t token = -1;
  };
  struct Drawn {
    int64_t step_id = 0;
    std::vector<std::pair<int64_t, int32_t>> tokens;  // (sequence, token), sorted
  };

  absl::Status CheckWrites(const v1::StepPlan& plan) const;
  absl::Status CheckChunk(const v1::SequenceChunk& chunk) const;
  absl::Status CopyBlocks(const v1::StepPlan& plan);
  absl::StatusOr<int32_t> TokenAt(const v1::SequenceChunk& chunk, int index) const;
  absl::StatusOr<uint64_t> StateBefore(const v1::SequenceChunk& chunk) const;
  absl::Status ExecuteChunk(const v1::SequenceChunk& chunk, v1::StepResult* result);
  Slot& At(const v1::SequenceChunk& chunk, int position);
  const Slot& At(const v1::SequenceChunk& chunk, int position) const;
  void Remember(const v1::StepResult& result);

  const SimulatedWorkerOptions options_;
  std::vector<Slot> slots_;   // (block, position in it)
  std::deque<Drawn> recent_;  // the last few steps'
};

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_SIMULATED_WORKER_H_
