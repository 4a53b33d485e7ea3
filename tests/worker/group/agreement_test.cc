#include "worker/group/agreement.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

// Runs `rank` on one thread per rank.
void OnEveryRank(int size, const std::function<void(Communicator&)>& rank) {
  auto world = MakeThreadCommunicators(size, {.deadline = absl::Minutes(1)});
  std::vector<std::thread> threads;
  for (auto& communicator : world) threads.emplace_back([&] { rank(*communicator); });
  for (auto& thread : threads) thread.join();
}

TEST(AgreementTest, AllWell) {
  for (const int size : {1, 2, 5}) {
    OnEveryRank(size, [](Communicator& world) {
      for (int round = 0; round < 3; ++round) {
        const Agreement agreement = Agree(world, absl::OkStatus(), absl::Minutes(1));
        EXPECT_TRUE(agreement.status.ok()) << agreement.status;
        EXPECT_EQ(agreement.failed_rank, -1);
      }
    });
  }
}

TEST(AgreementTest, TheLowestFailedRankSpeaks) {
  OnEveryRank(5, [](Communicator& world) {
    const bool fails = world.rank() == 2 || world.rank() == 4;
    const absl::Status mine =
        fails ? absl::DataLossError(absl::StrCat("rank ", world.rank(), " has no memory"))
              : absl::OkStatus();
    const Agreement agreement = Agree(world, mine, absl::Minutes(1));
    EXPECT_EQ(agreement.failed_rank, 2);
    EXPECT_EQ(agreement.status, absl::DataLossError("rank 2 has no memory"));
  });
}

TEST(AgreementTest, AFailedRankDoesNotWaitForTheStuck) {
  OnEveryRank(3, [](Communicator& world) {
    if (world.rank() == 2) return;  // never answers
    if (world.rank() == 1) return;
    const Agreement agreement = Agree(world, absl::DataLossError("leader"), absl::Hours(1));
    EXPECT_EQ(agreement.failed_rank, 0);
    EXPECT_EQ(agreement.status, absl::DataLossError("leader"));
  });
}

TEST(AgreementTest, ARankThatDoesNotAnswerIsNamed) {
  OnEveryRank(2, [](Communicator& world) {
    if (world.rank() == 1) return;
    const Agreement agreement = Agree(world, absl::OkStatus(), absl::Milliseconds(20));
    EXPECT_EQ(agreement.status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(agreement.status.message(), "rank 1 did not answer rank 0 within 20ms");
    EXPECT_EQ(agreement.failed_rank, 0);
  });
}

TEST(AgreementTest, TheLeadersTextArrivesWhole) {
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
