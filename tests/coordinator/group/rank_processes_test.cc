#include "coordinator/group/rank_processes.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tessera::coordinator {
namespace {

// A child that waits for a signal.
int Child() {
  const int pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  return pid;
}

int Reap(int pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

TEST(RankProcesses, EndedAsAZombieAndReaped) {
  const int pid = Child();
  RankProcesses processes;
  processes.Add(pid, getpid());
  EXPECT_FALSE(processes.AnyGone());
  kill(pid, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(processes.AnyGone());
  Reap(pid);
  EXPECT_TRUE(processes.AnyGone());
}

TEST(RankProcesses, KillsDescendantsAlone) {
  const int mine = Child();
  const int other = Child();
  RankProcesses processes;
  processes.Add(mine, getpid());
  processes.Add(other, mine);  // no descendant of that one
  processes.Add(getppid(), getpid());
  processes.Add(0, getpid());
  processes.Add(-1, getpid());
  processes.Kill();
  const int status = Reap(mine);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_EQ(waitpid(other, nullptr, WNOHANG), 0) << "killed too";
  kill(other, SIGKILL);
  Reap(other);
}

}  // namespace
}  // namespace tessera::coordinator
