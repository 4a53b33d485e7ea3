#include "worker/comm/doorbells.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "worker/comm/backoff.h"

namespace tessera::worker {
namespace {

// A sleep that lasts so long was not ended by a ring.
constexpr std::chrono::nanoseconds kForever = std::chrono::minutes(2);

TEST(DoorbellsTest, ARingBeforeTheSleepEndsItOnce) {
  Doorbells::Bell bell{};
  Doorbells mine({{3, &bell}}, 3);
  Doorbells others({{3, &bell}, {5, &bell}}, 5);
  others.Ring(3);
  others.Ring(3);
  EXPECT_TRUE(mine.Sleep(kForever));
  EXPECT_FALSE(mine.Sleep(std::chrono::milliseconds(1)));
  others.Ring(7);  // on another node
  EXPECT_FALSE(mine.Sleep(std::chrono::milliseconds(1)));
}

// Each process sleeps until the other has answered, again and again.
TEST(DoorbellsTest, WakesAnotherProcess) {
  constexpr int kRounds = 2000;
  struct Shared {
    Doorbells::Bell bells[2];
    std::atomic<int> turns;
  };
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                      -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* shared = new (memory) Shared{};
  const auto play = [shared](int me) {
    Doorbells bells({{0, &shared->bells[0]}, {1, &shared->bells[1]}}, me);
    for (int round = 0; round < kRounds; ++round) {
      while (shared->turns.load() % 2 != me) {
        if (!bells.Sleep(kForever)) return false;
      }
      ++shared->turns;
      bells.Ring(1 - me);
    }
    return true;
  };
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(play(1) ? 0 : 1);
  EXPECT_TRUE(play(0));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(shared->turns.load(), 2 * kRounds);
  munmap(memory, sizeof(Shared));
}

TEST(DoorbellsTest, ABackoffPollsAgainWhenItRings) {
  Doorbells::Bell bell{};
  Doorbells mine({{0, &bell}}, 0);
  Doorbells others({{0, &bell}, {1, &bell}}, 1);
  std::atomic<bool> sent{false};
  std::thread sender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    sent = true;
    others.Ring(0);
  });
  Patience patience = kSharedCore;
  patience.bells = &mine;
  mine.set_only_rings(true);
  int polls = 0;
  for (Backoff backoff(patience); !sent; backoff.Wait()) ++polls;
  sender.join();
  // Spins, some yields within 20 microseconds, then naps of half a millisecond and more.
  EXPECT_LT(polls, 1000);
}

}  // namespace
}  // namespace tessera::worker
