// Who waits for a stage waits for signs of life, however long the stage computes.
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/test_models.h"
#include "worker/comm/status_barrier.h"
#include "worker/engine/link_choice.h"
#include "worker/engine/pipeline_links.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

// One step of three tokens; after its result, the end.
class OneStepChannel : public StepChannel {
 public:
  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration) override {
    if (delivered_) return absl::CancelledError("enough");
    if (std::exchange(handed_out_, true)) return std::nullopt;
    v1::StepPlan step;
    v1::SequenceChunk& chunk = *step.add_chunks();
    for (int32_t token : {5, 6, 7}) chunk.add_token_ids(token);
    chunk.add_block_table(0);
    return step;
  }
  absl::Status SendResult(v1::StepResult) override {
    delivered_ = true;
    return absl::OkStatus();
  }
  bool delivered() const { return delivered_; }

 private:
  bool handed_out_ = false;
  bool delivered_ = false;
};

// A leader that is the first of two stages; the last stage is played by the test.
class LeaderTest : public testing::Test {
 protected:
  // Until the leader has nothing left to say; `play` gets the last stage's communicator once the
  // step has reached it.
  template <typename Play>
  absl::Status Run(const RankEngineOptions& options, Play play) {
    auto worlds = MakeThreadCommunicators(2, {.deadline = absl::Seconds(60)});
    absl::Status ended;
    std::thread leader([&, world = worlds[0].get()] {
      auto engine = RankEngine::Create(*file_, plan_, world, options);
      ended = engine.ok() ? (*engine)->Serve(&channel_) : engine.status();
    });
    Communicator& world = *worlds[1];
    EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
    EXPECT_TRUE(world.Split(1, 0).ok());
    EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
    EXPECT_TRUE(ChooseLinks(world, options.comm, {}).ok());
    EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
    heartbeats_before_step_ = HeartbeatsUntil(world, StepMessageKind::kStep);
    play(world);
    leader.join();
    return ended;
  }

  static int HeartbeatsUntil(Communicator& world, StepMessageKind kind) {
    for (int heartbeats = 0;; ++heartbeats) {
      auto bytes = world.Receive(0, kStepTag);
      if (!bytes.ok()) return -1;
      auto message = StepMessage::Decode(*std::move(bytes));
      if (!message.ok()) return -1;
      if (message->kind() == kind) return heartbeats;
    }
  }

  void SendResult(Communicator& world) {
    PipelineLinks links(&world, plan_, absl::Hours(1));
    EXPECT_TRUE(links.SendResult(v1::StepResult()).ok());
  }

  const std::unique_ptr<ModelFile> file_ = OpenTinyModel("llama");
  const v1::ShardPlan plan_ = PlanOf(*file_, 1, 2);
  OneStepChannel channel_;
  int heartbeats_before_step_ = 0;
};

TEST_F(LeaderTest, AStageThatComputesForLongTellsTheNextThatItLives) {
  RankEngineOptions options;
  options.heartbeat = absl::ZeroDuration();  // at every opportunity
  const absl::Status ended = Run(options, [&](Communicator& world) { SendResult(world); });
  EXPECT_TRUE(ended.ok()) << ended;
  const v1::Range& layers = plan_.ranks(0).layers();
  EXPECT_GE(heartbeats_before_step_, 2 * (layers.end() - layers.begin()));
}

TEST_F(LeaderTest, ALastStageThatComputesForLongIsNotTakenForDead) {
  RankEngineOptions options;
  options.result_deadline = absl::Seconds(1);
  const absl::Status ended = Run(options, [&](Communicator& world) {
    const absl::Time done = absl::Now() + 2 * options.result_deadline;
    PipelineLinks links(&world, plan_, absl::ZeroDuration());
    while (absl::Now() < done) {
      EXPECT_TRUE(links.KeepAlive().ok());
      absl::SleepFor(absl::Milliseconds(10));  // what it computes
    }
    SendResult(world);
  });
  EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_TRUE(channel_.delivered());
}

TEST_F(LeaderTest, ASilentLastStageEndsTheGroup) {
  RankEngineOptions options;
  options.result_deadline = absl::Milliseconds(50);
  const absl::Status ended = Run(options, [&](Communicator& world) {
    EXPECT_GE(HeartbeatsUntil(world, StepMessageKind::kAbort), 0);
  });
  EXPECT_EQ(ended.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(ended.message()),
              HasSubstr("step 0: no sign of life from the last stage within 50ms"));
}

// Waits as a channel does to which nothing comes, a given number of times.
class IdleChannel : public StepChannel {
 public:
  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override {
    if (idle_ > absl::Seconds(2.5)) return absl::CancelledError("enough");
    absl::SleepFor(wait);
    idle_ += wait;
    return std::nullopt;
  }
  absl::Status SendResult(v1::StepResult) override { return absl::OkStatus(); }

 private:
  absl::Duration idle_;
};

TEST(LivenessTest, AShortCommTimeoutDoesNotEndAnIdleGroup) {
  const auto file = OpenTinyModel("llama");
  IdleChannel channel;
  InProcessGroupOptions options;
  options.communicator.deadline = absl::Seconds(1);
  options.engine.SetPatience(options.communicator.deadline);
  const absl::Status ended = RunInProcessGroup(*file, PlanOf(*file, 2, 2), &channel, options);
  EXPECT_TRUE(ended.ok()) << ended;
}

}  // namespace
}  // namespace tessera::worker
