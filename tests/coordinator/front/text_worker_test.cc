#include "coordinator/front/text_worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kLong = TextWorker::kShortBytes + 1;

TEST(TextWorkerTest, ShortWorkRunsAtOnceOnTheCallersThread) {
  TextWorker worker;
  std::thread::id ran_on;
  EXPECT_TRUE(worker.Run(TextWorker::kShortBytes, [&] { ran_on = std::this_thread::get_id(); }));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

// A door's body and then its prompt: one hand-over is enough.
TEST(TextWorkerTest, WhatWorkRunsIsDoneBeforeItReturns) {
  TextWorker worker;
  bool inner = false, inner_was_done = false;
  ASSERT_TRUE(worker.Run(kLong, [&] {
    EXPECT_TRUE(worker.Run(kLong, [&] { inner = true; }));
    inner_was_done = inner;
  }));
  worker.WaitForTaken();
  EXPECT_TRUE(inner_was_done);
}

TEST(TextWorkerTest, WaitForTakenWaitsForLongWorkQueuedBefore) {
  TextWorker worker;
  std::atomic<int> done{0};
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(worker.Run(kLong, [&] { ++done; }));
  worker.WaitForTaken();
  EXPECT_EQ(done, 100);
}

// Whoever shares the worker may keep it busy for ever.
TEST(TextWorkerTest, WaitForTakenDoesNotWaitForWorkThatComesLater) {
  TextWorker worker;
  std::atomic<bool> stop{false};
  std::atomic<int> runs{0};
  std::thread busy([&] {
    while (!stop) {
      if (!worker.Run(kLong, [&] { ++runs; })) std::this_thread::yield();
    }
  });
  while (runs == 0) std::this_thread::yield();
  worker.WaitForTaken();
  stop = true;
  busy.join();
}

TEST(TextWorkerTest, StopDoesWhatIsQueuedAndTurnsTheRestAway) {
  auto worker = std::make_shared<TextWorker>();
  std::atomic<int> done{0};
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(worker->Run(kLong, [&] { ++done; }));
  worker->Stop();
  EXPECT_EQ(done, 10);
  EXPECT_FALSE(worker->Run(kLong, [&] { ++done; }));
  EXPECT_TRUE(worker->Run(1, [&] { ++done; })) << "short work needs no thread";
  EXPECT_EQ(done, 11);
  worker->Stop();
}

TEST(TextWorkerTest, TooMuchWaitingIsTurnedAway) {
  TextWorker worker;
  absl::Notification go;
  int taken = 0;
  while (worker.Run(kLong, [&] { go.WaitForNotification(); })) ++taken;
  EXPECT_GE(taken, static_cast<int>(TextWorker::kMostWaiting));
  go.Notify();
}

}  // namespace
}  // namespace tessera::coordinator
