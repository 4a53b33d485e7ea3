#include "tests/worker/engine/plan_list.h"

#include <cstring>
#include <string>
#include <utility>

namespace tessera::worker {

absl::StatusOr<std::optional<v1::StepPlan>> PlanList::NextPlan(absl::Duration) {
  if (next_ == plans_.size()) return absl::CancelledError("every plan was handed out");
  return plans_[next_++];
}

absl::Status PlanList::SendResult(v1::StepResult result) {
  results_.push_back(std::move(result));
  return absl::OkStatus();
}

v1::SequenceChunk& AddChunk(v1::StepPlan& step, int64_t sequence_id, int start,
                            const std::vector<int32_t>& ids, const std::vector<int32_t>& blocks) {
  v1::SequenceChunk& chunk = *step.add_chunks();
  chunk.set_sequence_id(sequence_id);
  chunk.set_start_position(start);
  for (int32_t id : ids) chunk.add_token_ids(id);
  for (int32_t block : blocks) chunk.add_block_table(block);
  return chunk;
}

std::vector<float> LogitsOf(const v1::StepResult& result, int i) {
  const std::string& bytes = result.logits(i).values();
  std::vector<float> logits(bytes.size() / sizeof(float));
  std::memcpy(logits.data(), bytes.data(), bytes.size());
  return logits;
}

}  // namespace tessera::worker
