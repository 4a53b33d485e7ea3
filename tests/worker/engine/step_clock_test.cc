// Which rank is slow can be read off the ranks' clocks, and the engine keeps its clock.

#include "worker/engine/step_clock.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"
#include "worker/comm/communicator.h"
#include "worker/engine/rank_engine.h"

namespace tessera::worker {
namespace {

// Three ranks run steps of two sums each; rank 2 is kept from its work by something else.
TEST(StepClockTest, TheSlowRankComputesMostAndWaitsLeast) {
  constexpr int kSteps = 15;
  constexpr size_t kSlow = 2;
  std::vector<std::unique_ptr<Communicator>> worlds = MakeThreadCommunicators(3, {});
  std::vector<StepClock> clocks(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t i = 0; i < worlds.size(); ++i) {
    ranks.emplace_back([&, i] {
      const auto tp = MakeTimedCommunicator(std::move(worlds[i]), clocks[i].comm());
      std::vector<float> data(576, 1.0f);
      for (int step = 0; step < kSteps; ++step) {
        clocks[i].BeginStep(/*others_work=*/false);
        ASSERT_TRUE(tp->AllReduceSum(absl::MakeSpan(data)).ok());
        if (i == kSlow) std::this_thread::sleep_for(std::chrono::milliseconds(15));
        ASSERT_TRUE(tp->AllReduceSum(absl::MakeSpan(data)).ok());
        clocks[i].EndStep();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  const v1::StepTimes slow = clocks[kSlow].Read();
  EXPECT_EQ(slow.steps(), kSteps);
  for (size_t i : {0, 1}) {
    const v1::StepTimes other = clocks[i].Read();
    EXPECT_EQ(other.steps(), kSteps);
    EXPECT_GT(slow.computing_micros(), other.computing_micros());
    EXPECT_LT(slow.waiting_micros(), other.waiting_micros());
  }
}

// What is between steps counts as waiting only where others may be at work, and only when it is
// short.
TEST(StepClockTest, BetweenStepsOneWaitsOrIsIdle) {
  StepClock idle, waiting;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  idle.BeginStep(false);
  idle.EndStep();
  waiting.BeginStep(true);
  waiting.EndStep();
  EXPECT_GE(idle.Read().idle_micros(), 2000);
  EXPECT_EQ(idle.Read().waiting_micros(), 0);
  EXPECT_GE(waiting.Read().waiting_micros(), 2000);
  EXPECT_EQ(waiting.Read().idle_micros(), 0);
}

TEST(StepClockTest, EveryRankOfAGroupKeepsItsClock) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, 2, 2);
  v1::StepPlan step;
  step.set_step_id(1);
  *AddChunk(step, 1, 0, {1, 2, 3}, {0}).mutable_sampling() = GreedyParams();
  PlanList list({step});
  std::vector<std::unique_ptr<Communicator>> worlds = MakeThreadCommunicators(4, {});
  std::vector<StepClock> clocks(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t i = 0; i < worlds.size(); ++i) {
    ranks.emplace_back([&, i] {
      RankEngineOptions options;
      options.clock = &clocks[i];
      auto engine = RankEngine::Create(*file, plan, worlds[i].get(), options);
      ASSERT_TRUE(engine.ok()) << engine.status();
      const absl::Status ended = (*engine)->Serve(i == 0 ? &list : nullptr);
      EXPECT_TRUE(ended.ok()) << ended;
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_EQ(list.results().size(), 1u);
  for (const StepClock& clock : clocks) EXPECT_EQ(clock.Read().steps(), 1);
}

}  // namespace
}  // namespace tessera::worker
