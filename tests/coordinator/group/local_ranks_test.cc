#include "coordinator/group/local_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tessera::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class FakeLauncher final : public Launcher {
 public:
  int pid() const override { return 1; }
  void AddRankPid(int pid) override { pids.push_back(pid); }
  void Terminate(absl::Duration /*grace*/) override {}
  absl::Status Wait() override { return absl::OkStatus(); }
  bool running() const override { return true; }

  std::vector<int> pids;
};

v1::RankReport Report(const char* group, const char* host, int pid) {
  v1::RankReport report;
  report.set_group_id(group);
  report.set_host(host);
  report.set_pid(pid);
  return report;
}

TEST(LocalRanksTest, TheLauncherHearsOfEachRankOfThisHostOnce) {
  LocalRanks ranks("here");
  FakeLauncher launcher;
  ranks.Add(Report("a", "here", 10));
  ranks.Add(Report("a", "there", 11));
  ranks.Add(Report("a", "here", 0));
  ranks.SetLauncher("a", &launcher);
  EXPECT_THAT(launcher.pids, ElementsAre(10)) << "those who reported before it was there";
  ranks.Add(Report("a", "here", 10));
  ranks.Add(Report("a", "here", 12));
  EXPECT_THAT(launcher.pids, ElementsAre(10, 12));
  ranks.SetLauncher("a", nullptr);
  ranks.Add(Report("a", "here", 13));
  EXPECT_THAT(launcher.pids, ElementsAre(10, 12));
}

TEST(LocalRanksTest, EachGroupsLauncherHearsOfItsOwn) {
  LocalRanks ranks("here");
  FakeLauncher one, other;
  ranks.SetLauncher("a", &one);
  ranks.SetLauncher("b", &other);
  ranks.Add(Report("a", "here", 10));
  ranks.Add(Report("b", "here", 11));
  EXPECT_THAT(one.pids, ElementsAre(10));
  EXPECT_THAT(other.pids, ElementsAre(11));
}

TEST(LocalRanksTest, AGroupThatHasEndedHasNoRanks) {
  LocalRanks ranks("here");
  ranks.Add(Report("a", "here", 10));
  ranks.Add(Report("b", "here", 11));
  ranks.Add(Report("b", "here", 12));
  ranks.Forget("a");
  FakeLauncher launcher, of_the_ended;
  ranks.SetLauncher("a", &of_the_ended);
  ranks.SetLauncher("b", &launcher);
  EXPECT_THAT(launcher.pids, UnorderedElementsAre(11, 12));
  EXPECT_THAT(of_the_ended.pids, IsEmpty());
}

}  // namespace
}  // namespace tessera::coordinator
