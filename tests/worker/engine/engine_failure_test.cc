// How a group ends: in order, on a plan that does not fit, on a file that does not load.
#include <deque>
#include <memory>
#include <string>
#include <thread>

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

// Hands out the given plans, then the given end.
class FixedChannel : public StepChannel {
 public:
  FixedChannel(std::deque<v1::StepPlan> plans, absl::Status end)
      : plans_(std::move(plans)), end_(std::move(end)) {}

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration) override {
    if (plans_.empty()) return end_;
    v1::StepPlan plan = std::move(plans_.front());
    plans_.pop_front();
    return plan;
  }
  absl::Status SendResult(v1::StepResult result) override {
    ids.push_back(result.step_id());
    micros.push_back(result.compute_micros());
    return absl::OkStatus();
  }

  std::vector<int64_t> ids, micros;

 private:
  std::deque<v1::StepPlan> plans_;
  const absl::Status end_;
};

// Step `id`: one new sequence of three tokens in KV block `id`.
v1::StepPlan SmallStep(int id) {
  v1::StepPlan step;
  step.set_step_id(id);
  v1::SequenceChunk& chunk = *step.add_chunks();
  chunk.set_sequence_id(id);
  for (int32_t token : {5, 6, 7}) chunk.add_token_ids(token);
  chunk.add_block_table(id);
  *chunk.mutable_sampling() = GreedyParams();
  return step;
}

TEST(EngineEndTest, AnOrderlyEndDeliversTheStepsUnderWay) {
  const auto file = OpenTinyModel("llama");
  FixedChannel channel({SmallStep(0), SmallStep(1), SmallStep(2), SmallStep(3)},
                       absl::CancelledError("enough"));
  for (const absl::Status& ended : ServeInProcess(*file, PlanOf(*file, 2, 3), &channel, {})) {
    EXPECT_TRUE(ended.ok()) << ended;
  }
  EXPECT_THAT(channel.ids, testing::ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(channel.micros, testing::Each(testing::Gt(0)));
}

TEST(EngineEndTest, ABrokenChannelEndsEveryRankWithItsReason) {
  const auto file = OpenTinyModel("llama");
  FixedChannel channel({SmallStep(0)}, absl::UnavailableError("the coordinator is gone"));
  const auto ended = ServeInProcess(*file, PlanOf(*file, 2, 2), &channel, {});
  EXPECT_EQ(ended[0].code(), absl::StatusCode::kUnavailable);
  for (size_t i = 1; i < ended.size(); ++i) {
    EXPECT_EQ(ended[i].code(), absl::StatusCode::kAborted) << i;
    EXPECT_THAT(std::string(ended[i].message()), HasSubstr("the coordinator is gone"));
  }
}

TEST(EngineEndTest, APlanThatDoesNotFitEndsTheGroupAsInvalid) {
  const auto file = OpenTinyModel("llama");
  v1::StepPlan lie = SmallStep(1);
  lie.mutable_chunks(0)->set_token_ids(1, 131);
  FixedChannel channel({SmallStep(0), lie}, absl::CancelledError("never reached"));
  const auto ended = ServeInProcess(*file, PlanOf(*file, 2, 1), &channel, {});
  EXPECT_EQ(ended[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("step 1, chunk 0 (sequence 1): token id"));
  EXPECT_EQ(ended[1].code(), absl::StatusCode::kAborted);
}

TEST(EngineEndTest, APlanForAnotherModelIsRefusedByEveryRank) {
  const auto llama = OpenTinyModel("llama");
  const auto qwen = OpenTinyModel("qwen2");
  FixedChannel channel({}, absl::CancelledError("never reached"));
  for (const absl::Status& ended : ServeInProcess(*qwen, PlanOf(*llama, 2, 2), &channel, {})) {
    EXPECT_EQ(ended.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ended.message()), HasSubstr("shard plan"));
  }
}

// A file of which one tensor cannot be read.
class BrokenFile : public ModelFile {
 public:
  explicit BrokenFile(const ModelFile& whole) : whole_(whole) {}
  const v1::ModelDescription& description() const override { return whole_.description(); }
  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override {
    if (tensor == "layers.2.wq") return absl::DataLossError("the disk says no");
    return whole_.ReadSlice(tensor, row_begin, row_end, col_begin, col_end, out);
  }

 private:
  const ModelFile& whole_;
};

TEST(EngineEndTest, ARankThatCannotLoadEndsAllWithItsReason) {
  const auto whole = OpenTinyModel("llama");
  const BrokenFile file(*whole);
  FixedChannel channel({}, absl::CancelledError("never reached"));
  for (const absl::Status& ended : ServeInProcess(file, PlanOf(*whole, 1, 3), &channel, {})) {
    EXPECT_EQ(ended.code(), absl::StatusCode::kDataLoss) << ended;
    EXPECT_THAT(std::string(ended.message()),
                HasSubstr("rank 2: loading layers.2.wq: the disk says no"));
  }
}

// Idles until the heartbeats that a waiting rank needs must have kept it alive, told by the number
// of times the leader asked, not by the clock.
class IdleChannel : public StepChannel {
 public:
  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override {
    if (++asked_ > 80) return absl::CancelledError("enough");
    absl::SleepFor(wait);  // what a real channel does while nothing comes
    return std::nullopt;
  }
  absl::Status SendResult(v1::StepResult) override { return absl::OkStatus(); }

 private:
  int asked_ = 0;
};

// The last of two stages, whose leader is played by the test: only a single stage of GPUs runs
// ahead.
TEST(EngineEndTest, AStepThatCannotBeEnqueuedHereIsRefused) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, 1, 2);
  auto worlds = MakeThreadCommunicators(2, {.deadline = absl::Seconds(60)});
  absl::Status ended;
  std::thread follower([&, world = worlds[1].get()] {
    auto engine = RankEngine::Create(*file, plan, world, {});
    ended = engine.ok() ? (*engine)->Serve(nullptr) : engine.status();
  });
  Communicator& world = *worlds[0];
  EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
  EXPECT_TRUE(world.Split(0, 0).ok());
  EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
  EXPECT_TRUE(ChooseLinks(world, LinkPreference::kAuto, {}).ok());
  EXPECT_TRUE(StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)}).status.ok());
  const std::string step = SmallStep(7).SerializeAsString();
  EXPECT_TRUE(world.Send(1, kStepTag, EncodeStepMessage(StepMessageKind::kEnqueue, step)).ok());
  follower.join();
  EXPECT_EQ(ended.code(), absl::StatusCode::kInternal) << ended;
  EXPECT_THAT(std::string(ended.message()),
              HasSubstr("step 7: expected one that this rank can schedule asynchronously"));
}

TEST(EngineEndTest, HeartbeatsKeepIdleRanksWithinTheirDeadline) {
  const auto file = OpenTinyModel("llama");
  IdleChannel channel;
  InProcessGroupOptions options;
  options.engine.heartbeat = absl::Milliseconds(50);
  options.communicator.deadline = absl::Seconds(2);  // the idle time is twice that
  for (const absl::Status& ended : ServeInProcess(*file, PlanOf(*file, 2, 2), &channel, options)) {
    EXPECT_TRUE(ended.ok()) << ended;
  }
}

TEST(EngineEndTest, ProgressCountsEveryByteOfTheShard) {
  const auto file = OpenTinyModel("qwen2");
  const v1::ShardPlan plan = PlanOf(*file, 1, 1);
  FixedChannel channel({}, absl::CancelledError("enough"));
  InProcessGroupOptions options;
  int64_t loaded = -1, total = -2;
  options.engine.on_progress = [&](int64_t bytes, int64_t of) {
    loaded = bytes;
    total = of;
  };
  ASSERT_TRUE(RunInProcessGroup(*file, plan, &channel, options).ok());
  EXPECT_EQ(loaded, total);
  EXPECT_EQ(total, plan.ranks(0).weight_bytes());
}

}  // namespace
}  // namespace tessera::worker
