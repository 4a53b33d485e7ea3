#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace tessera::kernels::cpu {
namespace {

TEST(ThreadPoolTest, EveryPartRunsOnceJobAfterJob) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (int job = 0; job < 3000; ++job) {
      const int parts = job % 37;
      std::vector<std::atomic<int>> runs(parts);
      pool.Run(parts, [&](int part, int thread) {
        ASSERT_LT(thread, threads);
        runs[part].fetch_add(1);
      });
      for (int part = 0; part < parts; ++part) ASSERT_EQ(runs[part].load(), 1);
    }
  }
}

// A worker held up after the last part of a short job once claimed a part of the long job that was
// being prepared, which then counted as done before it was: wrong sums, once in a million jobs.
TEST(ThreadPoolTest, LateWorkerTakesNothingOfTheNextJob) {
  ThreadPool pool(4);
  for (int job = 0; job < 200000; ++job) {
    const int parts = job % 2 == 0 ? 2 : 24;
    std::array<std::atomic<int>, 24> runs{};
    pool.Run(parts, [&](int part, int) { runs[part].fetch_add(1); });
    for (int part = 0; part < parts; ++part) ASSERT_EQ(runs[part].load(), 1) << "job " << job;
  }
}

TEST(ThreadPoolTest, ResultsAreVisibleToTheCallerWithoutAtomics) {
  ThreadPool pool(4);
  std::vector<int> values(1000);
  for (int job = 1; job <= 200; ++job) {
    pool.Run(1000, [&](int part, int) { values[part] += job; });
  }
  for (int value : values) EXPECT_EQ(value, 200 * 201 / 2);
}

TEST(ThreadPoolTest, OneThreadIsTheCallerAlone) {
  ThreadPool pool(1);
  EXPECT_EQ(pool.threads(), 1);
  std::set<std::thread::id> ids;
  pool.Run(100, [&](int, int thread) {
    EXPECT_EQ(thread, 0);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids, std::set<std::thread::id>{std::this_thread::get_id()});
}

// As many parts as threads, each waiting for all others: they can finish only if every thread took
// one, sleeping workers included. It is the thread's own.
TEST(ThreadPoolTest, AllThreadsTakePart) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  for (int job = 0; job < 50; ++job) {
    std::mutex mutex;
    std::condition_variable changed;
    int arrived = 0;
    std::set<int> threads;
    pool.Run(kThreads, [&](int part, int thread) {
      EXPECT_EQ(part, thread);
      std::unique_lock<std::mutex> lock(mutex);
      threads.insert(thread);
      ++arrived;
      changed.notify_all();
      changed.wait(lock, [&] { return arrived == kThreads; });
    });
    EXPECT_EQ(threads.size(), static_cast<size_t>(kThreads));
  }
}

// The first part waits until all others are done: by the other thread, which had half of them.
TEST(ThreadPoolTest, PartsOfThreadsThatAreHeldUpAreTaken) {
  constexpr int kParts = 8;
  ThreadPool pool(2);
  for (int job = 0; job < 50; ++job) {
    std::atomic<int> done{0};
    std::array<int, kParts> taken_by{};
    pool.Run(kParts, [&](int part, int thread) {
      taken_by[part] = thread;
      while (part == 0 && done.load() < kParts - 1) std::this_thread::yield();
      done.fetch_add(1);
    });
    for (int part = 1; part < kParts; ++part) EXPECT_EQ(taken_by[part], 1) << part;
  }
}

TEST(ThreadPoolTest, PoolsThatNeverRanEndAtOnce) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

}  // namespace
}  // namespace tessera::kernels::cpu
