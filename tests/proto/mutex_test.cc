#include "proto/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tessera {
namespace {

struct Counter {
  Mutex mu;
  CondVar changed;
  int count ABSL_GUARDED_BY(mu) = 0;
};

TEST(MutexTest, OneThreadAtATimeAndWaitersAreWoken) {
  constexpr int kThreads = 4, kTimes = 5000;
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&counter] {
      for (int i = 0; i < kTimes; ++i) {
        MutexLock lock(&counter.mu);
        ++counter.count;
        counter.changed.SignalAll();
      }
    });
  }
  {
    MutexLock lock(&counter.mu);
    while (counter.count < kThreads * kTimes) counter.changed.Wait(&counter.mu);
    EXPECT_EQ(counter.count, kThreads * kTimes);
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MutexTest, AWaitEndsAtItsDeadlineAndHoldsTheLockAgain) {
  Counter counter;
  MutexLock lock(&counter.mu);
  EXPECT_TRUE(counter.changed.WaitWithDeadline(&counter.mu, absl::InfinitePast()));
  const absl::Time deadline = absl::Now() + absl::Milliseconds(5);
  while (!counter.changed.WaitWithDeadline(&counter.mu, deadline)) {
  }
  EXPECT_GE(absl::Now(), deadline);
  counter.count = 1;  // the lock is held: ThreadSanitizer and clang would object otherwise
}

// A deadline that never comes must not overflow into one that is past.
TEST(MutexTest, ADeadlineInTheFarFutureIsWaitedFor) {
  Counter counter;
  std::thread waker([&counter] {
    MutexLock lock(&counter.mu);
    counter.count = 1;
    counter.changed.Signal();
  });
  {
    MutexLock lock(&counter.mu);
    while (counter.count == 0) {
      EXPECT_FALSE(counter.changed.WaitWithDeadline(&counter.mu, absl::InfiniteFuture()));
    }
  }
  waker.join();
}

}  // namespace
}  // namespace tessera
