// The timed communicator is a communicator like any other, and blames the right one.

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/comm/conformance.h"
#include "worker/comm/communicator.h"
#include "worker/comm/timed_communicator.h"

namespace tessera::worker {
namespace {

struct TimedConformanceTest : testing::TestWithParam<ConformanceCase> {};

TEST_P(TimedConformanceTest, Holds) {
  std::vector<std::unique_ptr<Communicator>> worlds = MakeThreadCommunicators(3, {});
  std::vector<CommTimes> times(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t i = 0; i < worlds.size(); ++i) {
    ranks.emplace_back([&, i] {
      const auto timed = MakeTimedCommunicator(std::move(worlds[i]), &times[i]);
      GetParam().run(*timed);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

INSTANTIATE_TEST_SUITE_P(Timed, TimedConformanceTest, testing::ValuesIn(ConformanceCases()),
                         [](const auto& test) { return std::string(test.param.name); });

// Rank 1 comes 10 ms late to each of 20 sums. The others must see that as waiting; what rank 1 sees
// of the others' lateness is what the system adds. And rank 1 is known to have been late by that.
TEST(TimedCommunicatorTest, WaitingIsForTheLateOne) {
  using std::chrono::milliseconds;
  constexpr int kSums = 20;
  constexpr milliseconds kLate(10);
  std::vector<std::unique_ptr<Communicator>> worlds = MakeThreadCommunicators(3, {});
  std::vector<CommTimes> times(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t i = 0; i < worlds.size(); ++i) {
    ranks.emplace_back([&, i] {
      const auto timed = MakeTimedCommunicator(std::move(worlds[i]), &times[i]);
      std::vector<float> data(576, 1.0f);
      // One that nobody is late for, so that the fastest is known.
      ASSERT_TRUE(timed->Barrier().ok());
      ASSERT_TRUE(timed->AllReduceSum(absl::MakeSpan(data)).ok());
      for (int k = 0; k < kSums; ++k) {
        if (i == 1) std::this_thread::sleep_for(kLate);
        ASSERT_TRUE(timed->AllReduceSum(absl::MakeSpan(data)).ok());
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (size_t early : {size_t{0}, size_t{2}}) {
    EXPECT_GT(times[early].waiting_ns, times[1].waiting_ns);
    EXPECT_GE(times[early].waiting_ns + times[early].moving_ns,
              std::chrono::nanoseconds(kSums * kLate).count());
    EXPECT_GT(times[1].late_ns, times[early].late_ns);
  }
  // A rank that the system woke late has taken some of it off.
  EXPECT_GT(times[1].late_ns, std::chrono::nanoseconds(kSums * kLate).count() / 2);
}

}  // namespace
}  // namespace tessera::worker
