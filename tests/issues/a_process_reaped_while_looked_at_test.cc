// Asking whether processes are gone failed when one of them was reaped meanwhile: /proc/<pid>/stat
// may open and then not be readable.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "coordinator/group/rank_processes.h"

namespace tessera::coordinator {
namespace {

TEST(Issues, AProcessReapedWhileLookedAt) {
  for (int round = 0; round < 300; ++round) {
    const int pid = fork();
    if (pid == 0) {
      for (;;) pause();
    }
    RankProcesses processes;
    processes.Add(pid, getpid());
    std::atomic<bool> reaped = false;
    std::thread reaper([&] {
      kill(pid, SIGKILL);
      int status = 0;
      EXPECT_EQ(waitpid(pid, &status, 0), pid);
      reaped = true;
    });
    while (!reaped) processes.AnyGone();
    reaper.join();
    EXPECT_TRUE(processes.AnyGone());
  }
}

}  // namespace
}  // namespace tessera::coordinator
