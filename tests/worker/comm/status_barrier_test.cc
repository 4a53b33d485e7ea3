#include "worker/comm/status_barrier.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/comm/receive_within.h"

namespace tessera::worker {
namespace {

// Runs `rank` on one thread per rank.
void OnEveryRank(int size, const std::function<void(Communicator&)>& rank) {
  auto world = MakeThreadCommunicators(size, {.deadline = absl::Minutes(1)});
  std::vector<std::thread> threads;
  for (auto& communicator : world) threads.emplace_back([&] { rank(*communicator); });
  for (auto& thread : threads) thread.join();
}

TEST(StatusBarrierTest, AllWell) {
  for (const int size : {1, 2, 5}) {
    OnEveryRank(size, [](Communicator& world) {
      for (int round = 0; round < 3; ++round) {
        const BarrierOutcome outcome =
            StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)});
        EXPECT_TRUE(outcome.status.ok()) << outcome.status;
        EXPECT_EQ(outcome.failed_rank, -1);
      }
    });
  }
}

TEST(StatusBarrierTest, TheLowestFailedRankSpeaks) {
  OnEveryRank(5, [](Communicator& world) {
    const bool fails = world.rank() == 2 || world.rank() == 4;
    const absl::Status mine =
        fails ? absl::DataLossError(absl::StrCat("rank ", world.rank(), " has no memory"))
              : absl::OkStatus();
    const BarrierOutcome outcome = StatusBarrier(world, mine, {.deadline = absl::Minutes(1)});
    EXPECT_EQ(outcome.failed_rank, 2);
    EXPECT_EQ(outcome.status, absl::DataLossError("rank 2 has no memory"));
  });
}

TEST(StatusBarrierTest, AFailedRankDoesNotWaitForTheStuck) {
  OnEveryRank(3, [](Communicator& world) {
    if (world.rank() == 2) return;  // never answers
    if (world.rank() == 1) return;
    const BarrierOutcome outcome =
        StatusBarrier(world, absl::DataLossError("leader"),
                      {.deadline = absl::Hours(1), .failed_waits_briefly = true});
    EXPECT_EQ(outcome.failed_rank, 0);
    EXPECT_EQ(outcome.status, absl::DataLossError("leader"));
  });
}

TEST(StatusBarrierTest, ARankThatDoesNotAnswerIsNamed) {
  OnEveryRank(2, [](Communicator& world) {
    if (world.rank() == 1) return;
    const BarrierOutcome outcome =
        StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Milliseconds(20)});
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(outcome.status.message(), "rank 1 did not answer rank 0 within 20ms");
    EXPECT_EQ(outcome.failed_rank, 0);
  });
}

TEST(StatusBarrierTest, WhatTheRanksWereAboutStandsInTheMessage) {
  OnEveryRank(2, [](Communicator& world) {
    if (world.rank() == 0) return;
    const BarrierOutcome outcome = StatusBarrier(
        world, absl::OkStatus(), {.deadline = absl::Milliseconds(20), .doing = "loading"});
    EXPECT_EQ(outcome.status.message(), "loading: rank 0 did not answer rank 1 within 20ms");
    EXPECT_EQ(outcome.failed_rank, 1);
  });
}

// The deadline is that of the whole barrier, and those who came hear which rank did not.
TEST(StatusBarrierTest, ThoseWhoCameLearnWhoDidNot) {
  OnEveryRank(4, [](Communicator& world) {
    if (world.rank() == 1 || world.rank() == 2) return;
    const BarrierOutcome outcome =
        StatusBarrier(world, absl::OkStatus(),
                      {.deadline = world.rank() == 0 ? absl::Milliseconds(20) : absl::Minutes(1)});
    EXPECT_EQ(outcome.status,
              absl::DeadlineExceededError("rank 1 did not answer rank 0 within 20ms"));
    EXPECT_EQ(outcome.failed_rank, 0);
  });
}

TEST(StatusBarrierTest, ARankThatWaitedInVainDoesNotSpeakForTheOneThatKnows) {
  OnEveryRank(4, [](Communicator& world) {
    const std::vector<absl::Status> statuses = {absl::AbortedError("the leader heard of it"),
                                                absl::OkStatus(), absl::InternalError("the cause"),
                                                absl::DeadlineExceededError("rank 3 waited")};
    const BarrierOutcome outcome =
        StatusBarrier(world, statuses[world.rank()],
                      {.deadline = absl::Minutes(1), .failed_waits_briefly = true});
    EXPECT_EQ(outcome.status, absl::InternalError("the cause"));
    EXPECT_EQ(outcome.failed_rank, 2);
  });
}

TEST(StatusBarrierTest, AFailedRankWaitsAsLongAsAnyUnlessToldOtherwise) {
  OnEveryRank(2, [](Communicator& world) {
    if (world.rank() == 1) {
      // Longer than the second that a failed rank waits where it waits briefly.
      absl::SleepFor(absl::Milliseconds(1200));
      const BarrierOutcome outcome =
          StatusBarrier(world, absl::OkStatus(), {.deadline = absl::Minutes(1)});
      EXPECT_EQ(outcome.status, absl::DataLossError("leader"));
      EXPECT_EQ(outcome.failed_rank, 0);
      return;
    }
    const BarrierOutcome outcome =
        StatusBarrier(world, absl::DataLossError("leader"), {.deadline = absl::Minutes(1)});
    EXPECT_EQ(outcome.status, absl::DataLossError("leader"));
  });
}

TEST(FromLeaderTest, TheLeadersTextArrivesWhole) {
  const std::string text("with \0 zero", 11);
  OnEveryRank(4, [&](Communicator& world) {
    for (const std::string& sent : {text, std::string()}) {
      auto heard = FromLeader(world, world.rank() == 0 ? sent : "ignored", absl::Minutes(1));
      ASSERT_TRUE(heard.ok()) << heard.status();
      EXPECT_EQ(*heard, sent);
    }
  });
}

}  // namespace
}  // namespace tessera::worker
