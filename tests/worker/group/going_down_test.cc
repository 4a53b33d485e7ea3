// Whoever dies: the group is lost once, with a reason, and nothing of it is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>
#include <tuple>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/worker/group/group_fixture.h"

namespace tessera::worker {
namespace {

enum Victim { kLeader = 0, kFollower = 2, kMpirun = 4 };  // index into Pids() of a 2×2 group

class GoingDownTest : public GroupFixture,
                      public ::testing::WithParamInterface<std::tuple<Victim, int>> {};

TEST_P(GoingDownTest, NothingIsLeft) {
  StartGroup(2, 2);
  if (HasFatalFailure()) return;
  const std::vector<int> pids = Pids();
  ASSERT_EQ(pids.size(), 5u);
  EXPECT_EQ(StillRunning(pids), pids);
  const auto [victim, signal_number] = GetParam();
  ASSERT_EQ(kill(pids[victim], signal_number), 0);
  ExpectGone(pids);
  const absl::Status why = observer_->record().losses.at(0);
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(why.message().empty());
  // An orderly end of all ranks may still leave mpirun with status 0; a killed one never does.
  const absl::Status how = job_->Wait();
  if (signal_number == SIGKILL) {
    EXPECT_FALSE(how.ok()) << Output();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Everyone, GoingDownTest,
    ::testing::Combine(::testing::Values(kLeader, kFollower, kMpirun),
                       ::testing::Values(SIGKILL, SIGTERM, SIGINT)),
    [](const auto& test) {
      const Victim victim = std::get<0>(test.param);
      const int number = std::get<1>(test.param);
      return std::string(victim == kLeader ? "Leader" : victim == kMpirun ? "Mpirun" : "Follower") +
             (number == SIGKILL ? "Killed" : number == SIGTERM ? "Terminated" : "Interrupted");
    });

using GoingDownAtOnceTest = GroupFixture;

TEST_F(GoingDownAtOnceTest, TheLauncherTakesTheGroupDown) {
  StartGroup(2, 2);
  if (HasFatalFailure()) return;
  const std::vector<int> pids = Pids();
  job_->Terminate(absl::Seconds(10));
  ExpectGone(pids);
}

TEST_F(GoingDownAtOnceTest, WhileItLoads) {
  // The coordinator never answers: the group waits for its plan.
  // Shared: the service's thread may still be on its way out of the wait when this function ends.
  auto asked = std::make_shared<absl::Notification>();
  auto answer = std::make_shared<absl::Notification>();
  observer_ = std::make_shared<coordinator::RecordingObserver>(
      [asked, answer](const v1::Hello&) -> absl::StatusOr<v1::ShardPlan> {
        asked->Notify();
        answer->WaitForNotification();
        return absl::UnavailableError("too late");
      });
  auto service = coordinator::ClusterService::Start({}, observer_.get());
  ASSERT_TRUE(service.ok());
  service_ = *std::move(service);
  Launch(Options(2));
  asked->WaitForNotification();
  kill(MpirunPid(), SIGKILL);
  EXPECT_FALSE(job_->Wait().ok());
  EXPECT_TRUE(SegmentsOf(MpirunPid()).empty());
  answer->Notify();
}

}  // namespace
}  // namespace tessera::worker
