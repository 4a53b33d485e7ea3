#include "worker/comm/backoff.h"

#include <sys/resource.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace tessera::worker {
namespace {

absl::Duration ProcessorTime() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

TEST(BackoffTest, CountsTheTimeSinceTheFirstWait) {
  Backoff backoff;
  EXPECT_EQ(backoff.waited(), absl::ZeroDuration());
  absl::Duration before;
  while (backoff.waited() < absl::Milliseconds(20)) {
    EXPECT_GE(backoff.waited(), before);
    before = backoff.waited();
    backoff.Wait();
  }
  backoff.Reset();
  EXPECT_EQ(backoff.waited(), absl::ZeroDuration());
}

TEST(BackoffTest, LongWaitsAreMostlySleep) {
  Backoff backoff;
  while (backoff.waited() < absl::Milliseconds(50)) backoff.Wait();
  const absl::Duration waited_before = backoff.waited();
  const absl::Duration used_before = ProcessorTime();
  int waits = 0;
  while (backoff.waited() < waited_before + absl::Milliseconds(300)) {
    backoff.Wait();
    ++waits;
  }
  // Naps of 1 ms: this is a count of system calls and the processor's time, not the clock's, so a
  // loaded machine only makes both smaller.
  EXPECT_LE(waits, 301);
  EXPECT_LT(ProcessorTime() - used_before, absl::Milliseconds(60));
}

TEST(BackoffTest, WaiterMakesWayForTheOneItWaitsFor) {
  std::atomic<int> turn{0};
  constexpr int kTurns = 200;
  // More waiters than cores: each turn needs one particular thread to run.
  constexpr int kThreads = 8;
  std::vector<std::thread> threads;
  for (int me = 0; me < kThreads; ++me) {
    threads.emplace_back([&turn, me] {
      Backoff backoff;
      for (int mine = me; mine < kTurns; mine += kThreads) {
        for (backoff.Reset(); turn.load() != mine;) backoff.Wait();
        turn.store(mine + 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(turn.load(), kTurns);
}

}  // namespace
}  // namespace tessera::worker
