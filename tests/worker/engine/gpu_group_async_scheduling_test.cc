// Async scheduling in a tensor-parallel group of simulated GPUs (kernels/simulated) that
// exchange activations and samples over NCCL: mpirun runs this program on every rank, and every
// rank runs the same tests in the same order. What one GPU alone does is in
// gpu_async_scheduling_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/simulated/journal.h"
#include "proto/base/status_macros.h"
#include "tests/worker/comm/rank_tests.h"
#include "tests/worker/engine/async_journal.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"
#include "worker/comm/communicator.h"
#include "worker/engine/rank_engine.h"
#include "worker/engine/step_clock.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

Communicator* mpi_world = nullptr;  // main's; GoogleTest has no other way in

bool IsLeader() { return mpi_world->rank() == 0; }

RankEngineOptions OnGpu() {
  RankEngineOptions options;
  options.device = "cuda";
  options.comm = LinkPreference::kNccl;
  options.device_options.gpu = mpi_world->rank();
  options.device_options.deterministic = true;
  return options;
}

v1::ShardPlan GroupPlan(const ModelFile& file) {
  coordinator::Layout layout;
  layout.tensor_parallel = mpi_world->size();
  layout.max_sequences_per_step = 300;
  return PlanOf(file, layout);
}

// On every rank. A world of its own: what a group that fails leaves behind disturbs no other.
absl::Status Serve(const ModelFile& file, const v1::ShardPlan& plan, StepChannel& channel,
                   const RankEngineOptions& options) {
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world,
                           mpi_world->Split(0, mpi_world->rank()));
  TESSERA_ASSIGN_OR_RETURN(auto engine, RankEngine::Create(file, plan, world.get(), options));
  return engine->Serve(IsLeader() ? &channel : nullptr);
}

struct Played {
  std::vector<GenerationResult> results;  // the leader's
  Journal journal;                        // this rank's
};

Played Play(const ModelFile& file, GenerationScript& script,
            const RankEngineOptions& engine = OnGpu()) {
  gpu_stubs::StartJournal();
  const absl::Status status = Serve(file, GroupPlan(file), script, engine);
  EXPECT_TRUE(status.ok()) << status;
  return {script.results(), gpu_stubs::StopJournal()};
}

Played Play(const ModelFile& file, const std::vector<GenerationRequest>& requests,
            const GenerationOptions& options, const RankEngineOptions& engine = OnGpu()) {
  GenerationScript script(GroupPlan(file), requests, options);
  return Play(file, script, engine);
}

TEST(GpuGroupAsyncSchedulingTest, GivesTheTokensOfStepsThatWait) {
  const auto file = OpenTinyModel("llama");
  const int32_t vocab = file->description().architecture().vocab_size();
  for (size_t others : {0, 3}) {
    const std::vector<GenerationRequest> requests = AsyncRequests(vocab, others);
    const Played ahead = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
    EXPECT_GE(Count(ahead.journal, "launch FillPlaceholders"), 4) << others;
    EXPECT_EQ(FreedAtWork(ahead.journal), 0) << others;
    const Played one_by_one = Play(*file, requests, {.prompt_chunk = 9});
    EXPECT_EQ(Count(one_by_one.journal, "launch FillPlaceholders"), 0);
    EXPECT_EQ(FreedAtWork(one_by_one.journal), 0) << others;
    if (IsLeader()) ExpectSameAnswers(ahead.results, one_by_one.results, absl::StrCat(others, " others"));
  }
}

// Steps that wait for each other take the same way when all is decided on the host.
TEST(GpuGroupAsyncSchedulingTest, GivesTheTokensThatTheHostsDecideOn) {
  const auto file = OpenTinyModel("llama");
  const int32_t vocab = file->description().architecture().vocab_size();
  std::vector<GenerationRequest> requests = AsyncRequests(vocab, 0);
  const Played ahead = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
  for (GenerationRequest& request : requests) request.return_logits = true;
  const Played on_hosts = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
  EXPECT_EQ(Count(on_hosts.journal, "launch FillPlaceholders"), 0);
  EXPECT_EQ(std::count_if(on_hosts.journal.begin(), on_hosts.journal.end(),
                          [](const auto& line) { return absl::StartsWith(line, "query"); }),
            0);
  if (IsLeader()) ExpectSameAnswers(ahead.results, on_hosts.results, "on hosts");
}

// The devices keep room for the samples of 256.
TEST(GpuGroupAsyncSchedulingTest, AStepOfMoreSequencesThanThereIsRoomForWaits) {
  const auto file = OpenTinyModel("llama");
  std::vector<GenerationRequest> requests(257, {.prompt = {1}, .max_new_tokens = 2});
  for (size_t i = 0; i < requests.size(); ++i) requests[i].prompt[0] = static_cast<int32_t>(i % 90);
  const Played together = Play(*file, requests, {.async_scheduling = true});
  EXPECT_EQ(Count(together.journal, "launch FillPlaceholders"), 0);
  if (!IsLeader()) return;
  for (size_t i : {size_t{0}, size_t{256}}) {
    EXPECT_EQ(together.results[i].tokens, together.results[i % 90].tokens) << i;
    EXPECT_EQ(together.results[i].tokens.size(), 2u);
  }
}

// Between any two looks of the leader's: they come while steps are on the devices, and before
// others.
TEST(GpuGroupAsyncSchedulingTest, HeartbeatsBetweenStepsChangeNothing) {
  const auto file = OpenTinyModel("llama");
  const int32_t vocab = file->description().architecture().vocab_size();
  const std::vector<GenerationRequest> requests = AsyncRequests(vocab, 1);
  RankEngineOptions engine = OnGpu();
  engine.heartbeat = absl::ZeroDuration();
  const Played often = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true}, engine);
  EXPECT_GE(Count(often.journal, "launch FillPlaceholders"), 4);
  const Played seldom = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
  if (IsLeader()) ExpectSameAnswers(often.results, seldom.results, "heartbeats");
}

TEST(GpuGroupAsyncSchedulingTest, MoreSequencesThanTheOutputHeadTakesAtOnce) {
  const auto file = OpenTinyModel("llama");
  std::vector<GenerationRequest> requests(70, {.prompt = {1}, .max_new_tokens = 5});
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt[0] = static_cast<int32_t>(i);
    if (i % 3 == 1) requests[i].sampling.set_temperature(1.1f);
    if (i % 5 == 2) requests[i].sampling.set_num_logprobs(2);
  }
  const Played ahead = Play(*file, requests, {.async_scheduling = true});
  EXPECT_GE(Count(ahead.journal, "launch FillPlaceholders"), 2);
  const Played one_by_one = Play(*file, requests, {});
  if (IsLeader()) ExpectSameAnswers(ahead.results, one_by_one.results, "70 sequences");
}

// The leader's GPU is slow: it begins nothing until the next plan has been with all ranks for a
// while.
class SlowGpu : public GenerationScript {
 public:
  using GenerationScript::GenerationScript;
  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override {
    auto plan = GenerationScript::NextPlan(wait);
    if (plan.ok() && *plan) gpu_stubs::StandStill(std::chrono::milliseconds(100));
    return plan;
  }
};

TEST(GpuGroupAsyncSchedulingTest, EveryRankPutsTheNextStepBehindTheRunningOne) {
  const auto file = OpenTinyModel("llama");
  const int tokens = 14;
  SlowGpu script(GroupPlan(*file), {{.prompt = {5, 6, 7}, .max_new_tokens = tokens}},
                 {.async_scheduling = true});
  const Played played = Play(*file, script);
  const Journal& journal = played.journal;
  const std::vector<StepLines> steps = SamplingSteps(journal);
  ASSERT_EQ(steps.size(), static_cast<size_t>(tokens));
  int behind = 0, all = 0;
  // The prompt, the first step of one row (whose memory is made) and the second (recorded) differ.
  for (size_t k = 3; k + 1 < steps.size(); ++k) {
    const StepLines& step = steps[k];
    const StepLines& next = steps[k + 1];
    SCOPED_TRACE(absl::StrCat("step ", k, ":\n", Quoted(journal, step.begin, next.passed + 1)));
    ASSERT_LT(step.passed, journal.size());
    ++all;
    behind += next.recorded < step.passed ? 1 : 0;
    EXPECT_EQ(std::count(journal.begin() + step.recorded, journal.begin() + next.recorded,
                         std::string("launch FillPlaceholders")),
              1);
    // Nothing waits for the device, and the tokens come by one copy.
    EXPECT_EQ(std::count(journal.begin() + step.recorded, journal.begin() + next.recorded,
                         std::string("synchronize")),
              0);
    EXPECT_EQ(std::count(journal.begin() + step.recorded, journal.begin() + next.recorded,
                         std::string("copy out")),
              1);
  }
  // The others' hosts may sleep through a step's whole time on a machine that is busy.
  EXPECT_GE(behind, IsLeader() ? all : all / 2) << absl::StrJoin(journal, "\n");
}

// Notes, as each result comes, how long the leader has been in calls of its communicator so far.
class CommWatcher : public GenerationScript {
 public:
  CommWatcher(const v1::ShardPlan& plan, std::vector<GenerationRequest> requests, StepClock& clock)
      : GenerationScript(plan, std::move(requests), {.async_scheduling = true}), clock_(clock) {}

  absl::Status SendResult(v1::StepResult result) override {
    in_comm.push_back(clock_.comm()->waiting_ns + clock_.comm()->moving_ns);
    return GenerationScript::SendResult(std::move(result));
  }

  std::vector<int64_t> in_comm;

 private:
  StepClock& clock_;
};

TEST(GpuGroupAsyncSchedulingTest, TokensOfAsyncStepsTakeNoMessages) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = GroupPlan(*file);
  StepClock clock;
  CommWatcher watcher(plan, {{.prompt = {5, 6, 7}, .max_new_tokens = 10}}, clock);
  RankEngineOptions options = OnGpu();
  options.clock = &clock;
  const absl::Status status = Serve(*file, plan, watcher, options);
  ASSERT_TRUE(status.ok()) << status;
  if (!IsLeader()) return;
  ASSERT_EQ(watcher.in_comm.size(), 10u);
  EXPECT_GT(watcher.in_comm[0], 0) << "the prompt's token";
  EXPECT_THAT(watcher.in_comm, testing::Each(watcher.in_comm[0]));
}

TEST(GpuGroupAsyncSchedulingTest, TheEndWaitsForWhatIsOnTheDevices) {
  const auto file = OpenTinyModel("llama");
  std::vector<v1::StepPlan> plans(4);
  for (int i = 0; i < 4; ++i) {
    plans[i].set_step_id(i + 1);
    v1::SequenceChunk& chunk =
        i == 0 ? AddChunk(plans[i], 1, 0, {5, 6, 7}, {0}) : AddChunk(plans[i], 1, 2 + i, {-1}, {0});
    *chunk.mutable_sampling() = GreedyParams();
    chunk.set_last_token_from_step(i);
  }
  PlanList list(plans);  // cancels at once behind the last plan
  const absl::Status status = Serve(*file, GroupPlan(*file), list, OnGpu());
  ASSERT_TRUE(status.ok()) << status;
  if (!IsLeader()) return;
  ASSERT_EQ(list.results().size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(list.results()[i].step_id(), static_cast<int64_t>(i + 1));
    EXPECT_EQ(list.results()[i].tokens_size(), 1);
  }
}

// Stops this rank's GPU once a few steps have been put ahead.
class Standstill {
 public:
  Standstill(const StepClock& clock, std::chrono::milliseconds how_long)
      : thread_([this, &clock, how_long] {
          while (!ended_ && clock.Read().steps() < 6) absl::SleepFor(absl::Milliseconds(1));
          if (!ended_) gpu_stubs::StandStill(how_long);
        }) {}
  ~Standstill() {
    ended_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// How this rank ends when the GPU of `stopped` stands still in the middle of many steps, and that
// rank is more patient than the others.
absl::Status EndAfterStandstillOf(int stopped, absl::Duration patience_of_stopped) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = GroupPlan(*file);
  GenerationScript script(plan, {{.prompt = {5, 6, 7}, .max_new_tokens = 200}},
                          {.async_scheduling = true});
  StepClock clock;
  RankEngineOptions options = OnGpu();
  options.clock = &clock;
  const bool is_stopped = mpi_world->rank() == stopped;
  options.SetPatience(is_stopped ? patience_of_stopped : absl::Seconds(2));
  std::unique_ptr<Standstill> standstill;
  if (is_stopped) standstill = std::make_unique<Standstill>(clock, std::chrono::seconds(5));
  const absl::Time began = absl::Now();
  const absl::Status status = Serve(*file, plan, script, options);
  EXPECT_LT(absl::Now() - began, absl::Seconds(30));
  return status;
}

TEST(GpuGroupAsyncSchedulingTest, ARankWhoseGpuStandsStillEndsTheOthersWithinTheirDeadline) {
  const absl::Status status = EndAfterStandstillOf(1, absl::Minutes(5));
  const std::string message(status.message());
  const auto too_late = HasSubstr(": the device has sampled no token within 2s");
  if (IsLeader()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(message, too_late);
  } else if (mpi_world->rank() == 1) {  // while its own steps are stuck
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_THAT(message, testing::AllOf(HasSubstr("the leader gave up: "), too_late));
  } else {
    EXPECT_THAT(message, too_late);
  }
}

TEST(GpuGroupAsyncSchedulingTest, ALeaderWhoseGpuStandsStillEndsTheOthersWithinTheirDeadline) {
  const absl::Status status = EndAfterStandstillOf(0, absl::Seconds(3));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat(": the device has sampled no token within ",
                                     IsLeader() ? "3s" : "2s")));
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return tessera::worker::RunTestsOnRanks({.deadline = absl::Seconds(120)},
                                          &tessera::worker::mpi_world);
}
