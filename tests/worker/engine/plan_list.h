// A StepChannel that hands out given plans, as fast as the leader takes them, and keeps the results.
// Then ends the group (CANCELLED). For tests.
//
//   PlanList list({step});
//   EXPECT_TRUE(RunInProcessGroup(*file, plan, &list, {}).ok());
//   list.results()[0].tokens(0);
#ifndef TESSERA_TESTS_WORKER_ENGINE_PLAN_LIST_H_
#define TESSERA_TESTS_WORKER_ENGINE_PLAN_LIST_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/engine/rank_engine.h"

namespace tessera::worker {

class PlanList : public StepChannel {
 public:
  explicit PlanList(std::vector<v1::StepPlan> plans) : plans_(std::move(plans)) {}

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override;
  absl::Status SendResult(v1::StepResult result) override;

  const std::vector<v1::StepResult>& results() const { return results_; }

 private:
  const std::vector<v1::StepPlan> plans_;
  size_t next_ = 0;
  std::vector<v1::StepResult> results_;
};

// Tokens `ids` of a sequence from `start` on, whose positions 0 .. are in `blocks`.
v1::SequenceChunk& AddChunk(v1::StepPlan& step, int64_t sequence_id, int start,
                            const std::vector<int32_t>& ids, const std::vector<int32_t>& blocks);

// The logits that came back for chunk `i` of those that asked for them.
std::vector<float> LogitsOf(const v1::StepResult& result, int i);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_PLAN_LIST_H_
