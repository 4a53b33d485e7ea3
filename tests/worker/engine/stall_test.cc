// StepResult.stall_micros: what the leader waited for a plan that a running sequence needed.
#include <deque>
#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

constexpr absl::Duration kLate = absl::Milliseconds(20);

// Hands out each plan that much later than it was asked for, once the results before are there.
class LateChannel : public StepChannel {
 public:
  struct Item {
    v1::StepPlan plan;
    absl::Duration late;
  };
  explicit LateChannel(std::deque<Item> items) : items_(std::move(items)) {}

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration) override {
    if (items_.empty()) return absl::CancelledError("enough");
    if (stalls.size() < handed_out_) return std::nullopt;
    absl::SleepFor(items_.front().late);  // the round trip
    v1::StepPlan plan = std::move(items_.front().plan);
    items_.pop_front();
    ++handed_out_;
    return plan;
  }
  absl::Status SendResult(v1::StepResult result) override {
    stalls.push_back(result.stall_micros());
    return absl::OkStatus();
  }

  std::vector<int64_t> stalls;

 private:
  std::deque<Item> items_;
  size_t handed_out_ = 0;
};

v1::StepPlan OneToken(int64_t step_id, int64_t sequence_id, int position) {
  v1::StepPlan step;
  step.set_step_id(step_id);
  AddChunk(step, sequence_id, position, {5}, {static_cast<int32_t>(sequence_id)});
  return step;
}

std::vector<int64_t> Stalls(int stages, absl::Duration longest_stall) {
  const auto file = OpenTinyModel("llama");
  LateChannel channel({{OneToken(1, 1, 0), kLate},    // the first ever
                       {OneToken(2, 1, 1), kLate},    // goes on
                       {OneToken(3, 2, 0), kLate},    // a new one
                       {OneToken(4, 2, 1), kLate}});  // goes on
  InProcessGroupOptions options;
  options.engine.longest_stall = longest_stall;
  const absl::Status ended = RunInProcessGroup(*file, PlanOf(*file, 1, stages), &channel, options);
  EXPECT_TRUE(ended.ok()) << ended;
  return channel.stalls;
}

TEST(StallTest, CountsTheWaitForARunningSequenceAndNoIdleTime) {
  const auto at_least = testing::Ge(absl::ToInt64Microseconds(kLate));
  for (int stages : {1, 2}) {
    EXPECT_THAT(Stalls(stages, absl::InfiniteDuration()),
                testing::ElementsAre(0, at_least, 0, at_least));
    EXPECT_THAT(Stalls(stages, kLate / 2), testing::ElementsAre(0, 0, 0, 0));
  }
}

}  // namespace
}  // namespace tessera::worker
