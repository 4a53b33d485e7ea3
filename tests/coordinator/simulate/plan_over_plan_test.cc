// A plan written over an earlier one says the same as a new one, whatever happened in between:
// sequences that ended, were preempted and came back, changed places, had tokens banned.
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/schedule/scheduler.h"
#include "gtest/gtest.h"
#include "coordinator/simulate/simulated_worker.h"

namespace tessera::testing {
namespace {

using coordinator::Emission;
using coordinator::FinishCause;
using coordinator::ScheduledRequest;
using coordinator::Scheduler;
using coordinator::SchedulerLimits;
using coordinator::SchedulingPolicy;

class PlanOverPlanTest : public ::testing::TestWithParam<unsigned> {
 protected:
  int Below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  ScheduledRequest NextRequest() {
    ScheduledRequest request;
    request.id = next_id_++;
    const int prompt = 1 + Below(30);
    for (int i = 0; i < prompt; ++i) request.prompt_ids.push_back(Below(256));
    request.max_tokens = 1 + Below(60);
    request.priority = Below(3);
    request.tenant = std::string(1, static_cast<char>('a' + Below(2)));
    request.sampling.set_temperature(1);
    request.sampling.set_seed(random_());
    switch (Below(8)) {
      case 0: request.sampling.set_frequency_penalty(0.5); break;
      case 1: request.min_tokens = 5; request.stop_ids = {7}; break;
      case 2: request.bad_words = {{3}}; break;
      case 3: request.prompt_logprobs_from = 1; break;
      case 4: request.seeds = {1, 2, 3}; break;
      case 5: request.sampling.set_num_logprobs(2); break;
      default: break;
    }
    return request;
  }

  std::mt19937 random_{GetParam()};
  int64_t next_id_ = 1;
};

TEST_P(PlanOverPlanTest, ReusedAndNewPlansAreEqual) {
  SchedulerLimits limits;
  limits.block_tokens = 4;
  limits.num_blocks = GetParam() % 2 == 0 ? 4'000 : 150;  // the latter: many are preempted
  limits.max_tokens_per_step = 200;
  limits.max_sequences_per_step = 40;
  limits.max_steps_in_flight = 1 + Below(2);
  limits.lookahead = Below(2) == 0;
  limits.policy = Below(2) == 0 ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs;
  limits.vocab_size = SimulatedModel{}.vocab_size;
  Scheduler reusing(limits);
  Scheduler renewing(limits);
  SimulatedWorker worker({.num_blocks = limits.num_blocks, .block_tokens = limits.block_tokens});
  v1::StepPlan plan;
  std::deque<v1::StepResult> results;
  const absl::Time now = absl::UnixEpoch();
  for (int turn = 0; turn < 1'500; ++turn) {
    for (int i = Below(4); i > 0 && turn < 1'200; --i) {
      const ScheduledRequest request = NextRequest();
      EXPECT_EQ(reusing.Add(request, now).code(), renewing.Add(request, now).code());
    }
    if (Below(5) == 0) {
      const int64_t gone = 1 + Below(static_cast<int>(next_id_));
      EXPECT_EQ(reusing.Finish(gone), renewing.Finish(gone));
    }
    while (true) {
      const bool planned = reusing.Schedule(now, &plan);
      const std::optional<v1::StepPlan> expected = renewing.Schedule(now);
      ASSERT_EQ(planned, expected.has_value()) << "turn " << turn;
      if (!planned) break;
      ASSERT_EQ(plan.SerializeAsString(), expected->SerializeAsString())
          << "turn " << turn << "\n" << plan.DebugString() << expected->DebugString();
      absl::StatusOr<v1::StepResult> result = worker.Execute(plan);
      ASSERT_TRUE(result.ok()) << result.status();
      results.push_back(*std::move(result));
    }
    if (results.empty()) continue;
    std::vector<Emission> emissions;
    ASSERT_TRUE(reusing.Commit(results.front(), &emissions).ok());
    ASSERT_TRUE(renewing.Commit(results.front(), &emissions).ok());
    results.pop_front();
  }
  EXPECT_GT(reusing.stats().steps, 500);
  if (GetParam() % 2 == 1) {
    EXPECT_GT(reusing.stats().preemptions, 10);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, PlanOverPlanTest, ::testing::Range(0u, 12u));

}  // namespace
}  // namespace tessera::testing
