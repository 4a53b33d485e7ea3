#include "coordinator/group/launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/group/mpi_leftovers.h"

namespace tessera::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A launcher that ignores mpirun's arguments and runs a shell script instead.
class LauncherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "launcher_test." + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  LaunchOptions Script(const std::string& text) {
    const std::string path = absl::StrCat(folder_, "/job");
    std::ofstream(path) << "#!/bin/sh\n" << text << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    LaunchOptions options;
    options.launcher_program = path;
    options.worker_program = "worker";
    return options;
  }

  std::unique_ptr<Launcher> Start(const LaunchOptions& options) {
    auto job = Launcher::Start(
        options,
        [this](const std::string& line) {
          absl::MutexLock lock(&mu_);
          lines_.push_back(line);
        },
        [this](absl::Status how) {
          absl::MutexLock lock(&mu_);
          exits_.push_back(std::move(how));
        });
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *std::move(job) : nullptr;
  }

  // The first line of output; waits for it.
  std::string FirstLine() {
    absl::MutexLock lock(&mu_);
    auto some = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !lines_.empty(); };
    return mu_.AwaitWithTimeout(absl::Condition(&some), absl::Minutes(1)) ? lines_[0] : "";
  }

  std::string folder_;
  absl::Mutex mu_;
  std::vector<std::string> lines_;
  std::vector<absl::Status> exits_;
};

// Waits until the process is gone or, orphaned here, a zombie that nobody reaps.
bool AwaitGone(int pid) {
  const absl::Time limit = absl::Now() + absl::Minutes(1);
  while (absl::Now() < limit) {
    if (kill(pid, 0) != 0 && errno == ESRCH) return true;
    std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
    std::string text;
    std::getline(stat, text, '\0');
    if (text.find(") Z") != std::string::npos) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

TEST_F(LauncherTest, OutputComesLineByLineAndTheExitOnce) {
  auto job = Start(Script("echo one; echo two >&2; printf three"));
  EXPECT_TRUE(job->Wait().ok());
  EXPECT_FALSE(job->running());
  EXPECT_THAT(lines_, ElementsAre("one", "two", "three"));
  ASSERT_EQ(exits_.size(), 1u);
  EXPECT_TRUE(exits_[0].ok());
  job->Terminate(absl::Seconds(1));
  EXPECT_EQ(kill(job->pid(), 0), -1) << "a zombie is left";
}

TEST_F(LauncherTest, AMissingProgramIsNamed) {
  LaunchOptions options;
  options.launcher_program = "no-such-mpirun";
  auto job = Launcher::Start(options, nullptr, nullptr);
  ASSERT_EQ(job.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(job.status().message()), HasSubstr("no-such-mpirun not found"));
  options.launcher_program = "/";
  EXPECT_THAT(std::string(Launcher::Start(options, nullptr, nullptr).status().message()),
              HasSubstr("cannot be run: Permission denied"));
}

TEST_F(LauncherTest, TheWorkersOwnLineExplainsTheExit) {
  auto job = Start(Script("echo noise; echo 'tessera-worker: m.gguf: truncated' >&2\n"
                          "echo -----; echo 'mpirun noticed that'; echo; exit 3"));
  const absl::Status how = job->Wait();
  EXPECT_THAT(std::string(how.message()), HasSubstr("exit status 3: m.gguf: truncated"));
}

TEST_F(LauncherTest, MpirunsNoticeExplainsADeadRank) {
  auto job = Start(Script("echo 'mpirun noticed that process rank 2 exited on signal 9'\n"
                          "echo ------; exit 137"));
  EXPECT_THAT(std::string(job->Wait().message()),
              HasSubstr("exit status 137: mpirun noticed that process rank 2"));
}

TEST_F(LauncherTest, ASignalIsNamed) {
  auto job = Start(Script("kill -9 $$"));
  EXPECT_THAT(std::string(job->Wait().message()), HasSubstr("killed by signal 9 (Killed)"));
}

TEST_F(LauncherTest, TerminateAsksFirst) {
  auto job = Start(Script("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"));
  ASSERT_EQ(FirstLine(), "up");
  job->Terminate(absl::Minutes(1));
  EXPECT_TRUE(exits_.at(0).ok());
  EXPECT_THAT(lines_, Contains("bye"));
}

TEST_F(LauncherTest, TerminateKillsWhatDoesNotListenAndItsChildren) {
  auto job = Start(Script("trap '' TERM; sleep 1000 & echo $!; wait"));
  int child = 0;
  ASSERT_TRUE(absl::SimpleAtoi(FirstLine(), &child));
  job->Terminate(absl::Milliseconds(20));
  EXPECT_FALSE(job->running());
  EXPECT_TRUE(AwaitGone(child));
}

TEST_F(LauncherTest, ReportedRanksDieWithTheJob) {
  // setsid: out of the job's process group, as mpirun's ranks are.
  auto job = Start(Script("setsid sleep 1000 & echo $!; wait"));
  int rank = 0;
  ASSERT_TRUE(absl::SimpleAtoi(FirstLine(), &rank));
  job->AddRankPid(rank);
  job->AddRankPid(1);  // not one of ours: ignored
  kill(job->pid(), SIGKILL);
  EXPECT_FALSE(job->Wait().ok());
  EXPECT_TRUE(AwaitGone(rank));
}

// A peer on the cluster port could have any process of this user killed.
TEST_F(LauncherTest, AReportedProcessOfSomebodyElseIsLeftAlone) {
  const pid_t stranger = fork();
  if (stranger == 0) {
    for (;;) pause();
  }
  auto job = Start(Script("echo up; sleep 1000"));
  FirstLine();
  job->AddRankPid(stranger);
  job->AddRankPid(getpid());
  kill(job->pid(), SIGKILL);
  EXPECT_FALSE(job->Wait().ok());
  job = nullptr;
  EXPECT_EQ(waitpid(stranger, nullptr, WNOHANG), 0) << "the stranger was killed";
  kill(stranger, SIGKILL);
  waitpid(stranger, nullptr, 0);
}

TEST_F(LauncherTest, AnOrphanHoldingTheOutputDoesNotHoldTheJob) {
  auto job = Start(Script("setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.01; exit 0"));
  EXPECT_TRUE(job->Wait().ok());
  int orphan = 0;
  ASSERT_TRUE(absl::SimpleAtoi(FirstLine(), &orphan));
  kill(orphan, SIGKILL);
}

TEST_F(LauncherTest, TheDestructorEndsTheJob) {
  auto job = Start(Script("echo $$; exec sleep 1000"));
  int pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(FirstLine(), &pid));
  job.reset();
  EXPECT_EQ(exits_.size(), 1u);
  EXPECT_EQ(kill(pid, 0), -1);
}

// An mpirun that locks up after its ranks have gone is not waited for.
TEST_F(LauncherTest, AJobWhoseRankIsGoneEnds) {
  auto job = Start(Script("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"));
  int rank = 0;
  ASSERT_TRUE(absl::SimpleAtoi(FirstLine(), &rank));
  job->AddRankPid(rank);
  EXPECT_TRUE(job->running());
  kill(rank, SIGKILL);
  EXPECT_THAT(std::string(job->Wait().message()), HasSubstr("killed by signal 9"));
}

TEST_F(LauncherTest, WhatAKilledCoordinatorLeftIsRemoved) {
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  waitpid(dead, nullptr, 0);
  const char* tmpdir = getenv("TMPDIR");
  const std::string session =
      absl::StrCat(tmpdir ? tmpdir : "/tmp", "/tessera-mpi.", dead, ".left");
  std::filesystem::create_directories(session);
  std::ofstream(session + "/mpirun.pid") << dead;
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const std::string segment = absl::StrFormat("/dev/shm/vader_segment.%s.%u.%x.0", host, geteuid(),
                                              OpenMpiJobId(host, dead));
  std::ofstream(segment) << "left";
  EXPECT_TRUE(Start(Script("true"))->Wait().ok());
  EXPECT_FALSE(std::filesystem::exists(session));
  EXPECT_FALSE(std::filesystem::exists(segment));
}

// The process that launched dies by SIGKILL: so does its job.
TEST_F(LauncherTest, TheJobDiesWithTheLaunchingProcess) {
  const LaunchOptions options = Script("echo $$; exec sleep 1000");
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const pid_t coordinator = fork();
  if (coordinator == 0) {
    auto job = Launcher::Start(
        options,
        [&](const std::string& line) {
          if (write(channel[1], line.data(), line.size() + 1) < 0) _exit(1);
        },
        nullptr);
    for (;;) pause();
  }
  char text[32] = "";
  ASSERT_GT(read(channel[0], text, sizeof(text) - 1), 0);
  int pid = 0;
  ASSERT_TRUE(absl::SimpleAtoi(text, &pid)) << text;
  kill(coordinator, SIGKILL);
  waitpid(coordinator, nullptr, 0);
  EXPECT_TRUE(AwaitGone(pid));
  close(channel[0]);
  close(channel[1]);
}

TEST_F(LauncherTest, SessionFilesGoAway) {
  auto job = Start(Script("for last; do :; done; while [ \"$1\" != orte_tmpdir_base ]; do shift; "
                          "done; echo $2; touch $2/file"));
  EXPECT_TRUE(job->Wait().ok());
  const std::string session = FirstLine();
  EXPECT_THAT(session, HasSubstr("tessera-mpi."));
  EXPECT_FALSE(std::filesystem::exists(session));
}

TEST(LaunchCommandTest, SaysWhatMpirunAndTheWorkersNeed) {
  LaunchOptions options;
  options.worker_program = "/bin/tessera-worker";
  options.world_size = 4;
  options.coordinator = "127.0.0.1:50052";
  options.model = "/models/m.gguf";
  options.cores = 8;
  const std::string plain = absl::StrJoin(LaunchCommand(options, "/tmp/s"), " ");
  EXPECT_THAT(plain, HasSubstr("mpirun -n 4 "));
  EXPECT_THAT(plain, HasSubstr("--mca orte_tmpdir_base /tmp/s"));
  EXPECT_THAT(plain,
              HasSubstr("/bin/tessera-worker --coordinator 127.0.0.1:50052 --model /models/m.gguf"));
  EXPECT_THAT(plain, Not(HasSubstr("mpi_yield_when_idle")));
  EXPECT_EQ(plain.find("--allow-run-as-root") != std::string::npos, geteuid() == 0);

  options.cores = 2;
  options.load_format = "dummy";
  options.threads_per_rank = 3;
  options.health_port = 9000;
  options.launcher_args = {"--hostfile", "hosts"};
  options.worker_args = {"--host", "0.0.0.0"};
  const std::string full = absl::StrJoin(LaunchCommand(options, "/tmp/s"), " ");
  EXPECT_THAT(full, HasSubstr("--mca mpi_yield_when_idle 1"));
  EXPECT_THAT(full, Not(HasSubstr("--oversubscribe")));
  EXPECT_THAT(full, HasSubstr("--hostfile hosts /bin/tessera-worker"));
  EXPECT_THAT(full, HasSubstr("--load-format dummy --threads-per-rank 3 --health-port 9000 "
                              "--host 0.0.0.0"));
}

// Values seen on a running system: the pid of an mpirun and the PMIX_NAMESPACE of its ranks.
TEST(OpenMpiJobIdTest, IsTheOneOpenMpiComputes) {
  EXPECT_EQ(OpenMpiJobId("vm", 9546), 1236533249u);
  EXPECT_EQ(OpenMpiJobId("vm", 9671), 1228472321u);
  EXPECT_EQ(OpenMpiJobId("vm", 9676), 1228013569u);
}

}  // namespace
}  // namespace tessera::coordinator
