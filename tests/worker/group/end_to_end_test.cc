// Real groups: mpirun, gRPC, a tiny checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "tests/worker/group/group_fixture.h"
#include "tests/worker/group/health_client.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// The step that feeds `ids` at `start_position` and samples the next token greedily.
v1::StepPlan GreedyStep(int64_t step_id, const std::vector<int>& ids, int start_position) {
  v1::StepPlan step;
  step.set_step_id(step_id);
  auto* chunk = step.add_chunks();
  chunk->set_sequence_id(1);
  for (const int id : ids) chunk->add_token_ids(id);
  chunk->set_start_position(start_position);
  chunk->add_block_table(3);
  chunk->mutable_sampling()->set_top_p(1);
  chunk->mutable_sampling()->set_num_logprobs(-1);
  return step;
}

class EndToEndTest : public GroupFixture {
 protected:
  // Eight greedy tokens after a fixed prompt.
  std::vector<int> Generate() {
    std::vector<int> tokens;
    std::vector<int> next = {1, 5, 9};
    int position = 0;
    for (int i = 0; i < 8; ++i) {
      const v1::StepResult result = RunStep(GreedyStep(i + 1, next, position));
      EXPECT_EQ(result.step_id(), i + 1);
      EXPECT_EQ(result.tokens_size(), 1);
      if (result.tokens_size() != 1) break;
      position += static_cast<int>(next.size());
      next = {result.tokens(0).token_id()};
      tokens.push_back(next[0]);
    }
    return tokens;
  }

  std::vector<std::string> WorkerLines() const {
    std::vector<std::string> lines;
    for (const auto& line : absl::StrSplit(Output(), '\n')) {
      if (absl::StartsWith(line, "tessera-worker: ")) lines.emplace_back(line);
    }
    return lines;
  }
};

TEST_F(EndToEndTest, FourRanksServeAndLeaveInOrder) {
  StartGroup(2, 2);
  if (HasFatalFailure()) return;
  const auto reports = ServingReports();
  ASSERT_EQ(reports.size(), 4u);
  for (const auto& report : reports) {
    SCOPED_TRACE(report.world_rank());
    EXPECT_EQ(CheckHealth(report.health_port()), "SERVING");
    EXPECT_FALSE(report.host().empty());
    EXPECT_FALSE(report.device().empty());
    EXPECT_EQ(report.threads(), 1);
    EXPECT_GT(report.bytes_total(), 0);
    EXPECT_EQ(report.bytes_loaded(), report.bytes_total());
    EXPECT_GT(report.rss_before_load_bytes(), 0);
    EXPECT_GE(report.peak_rss_bytes(), report.rss_before_load_bytes());
  }
  const std::vector<int> tokens = Generate();
  const std::vector<int> pids = Pids();
  observer_->record().transport->Shutdown("the test is over");
  ExpectGone(pids);
  EXPECT_TRUE(observer_->record().losses.at(0).ok());
  EXPECT_TRUE(job_->Wait().ok()) << job_->Wait() << "\n" << Output();
  EXPECT_EQ(Output(), "");

  // One rank alone says the same.
  service_.reset();
  StartGroup(1, 1);
  if (HasFatalFailure()) return;
  EXPECT_EQ(Generate(), tokens);
}

TEST_F(EndToEndTest, ARefusedGroupSaysWhyOnce) {
  layout_.tensor_parallel = 5;  // two ranks are launched
  Listen();
  Launch(Options(2));
  EXPECT_THAT(std::string(job_->Wait().message()),
              HasSubstr("exit status 1: the worker group has 2 ranks; the layout needs 5"));
  EXPECT_THAT(WorkerLines(), SizeIs(1)) << Output();
}

TEST_F(EndToEndTest, ABadModelFileIsOneLineWithoutACoordinator) {
  const std::string model = ::testing::TempDir() + "bad.gguf";
  std::ofstream(model) << "GGUF but no more";
  auto options = Options(3);
  options.model = model;
  Launch(options);
  EXPECT_THAT(std::string(job_->Wait().message()), HasSubstr("bad.gguf"));
  EXPECT_THAT(WorkerLines(), SizeIs(1)) << Output();
  std::filesystem::remove(model);
}

TEST_F(EndToEndTest, ATakenHealthPortIsNamed) {
  StartGroup(1, 1);
  if (HasFatalFailure()) return;
  auto options = Options(1);
  options.health_port = ServingReports().at(0).health_port();
  std::vector<std::string> lines;
  auto second = coordinator::Launcher::Start(options, nullptr, nullptr);
  ASSERT_TRUE(second.ok());
  EXPECT_THAT(std::string((*second)->Wait().message()),
              HasSubstr(absl::StrCat("127.0.0.1:", options.health_port)));
}

TEST_F(EndToEndTest, ASecondGroupIsTurnedAway) {
  StartGroup(1, 1);
  if (HasFatalFailure()) return;
  auto second = coordinator::Launcher::Start(Options(1), nullptr, nullptr);
  ASSERT_TRUE(second.ok());
  EXPECT_THAT(std::string((*second)->Wait().message()), HasSubstr("already has a worker group"));
  EXPECT_THAT(Generate(), SizeIs(8)) << "the first was disturbed";
}

TEST_F(EndToEndTest, APlanThatLiesEndsTheGroup) {
  StartGroup(2, 1);
  if (HasFatalFailure()) return;
  const std::vector<int> pids = Pids();
  ASSERT_TRUE(observer_->record().transport->SendPlan(GreedyStep(1, {1 << 30}, 0)).ok());
  ExpectGone(pids);
  EXPECT_THAT(std::string(observer_->record().losses.at(0).message()), HasSubstr("1073741824"));
  EXPECT_THAT(std::string(job_->Wait().message()), HasSubstr("1073741824")) << Output();
}

}  // namespace
}  // namespace tessera::worker
