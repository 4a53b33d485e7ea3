// How worlds of one process end when they do not end well.

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr absl::Duration kShort = absl::Milliseconds(50);

absl::Status Sum(Communicator& world, size_t length) {
  std::vector<float> data(length, 1.0f);
  return world.AllReduceSum(absl::MakeSpan(data));
}

void ExpectDead(Communicator& communicator, const absl::Status& cause) {
  std::vector<std::byte> bytes(4);
  EXPECT_EQ(Sum(communicator, 1), cause);
  EXPECT_EQ(communicator.AllGather({}, {}), cause);
  EXPECT_EQ(communicator.Broadcast(0, bytes), cause);
  EXPECT_EQ(communicator.Send(0, 0, {}), cause);
  EXPECT_EQ(communicator.Receive(0, 0).status(), cause);
  EXPECT_EQ(communicator.TryReceive(0, 0).status(), cause);
  EXPECT_EQ(communicator.Barrier(), cause);
  EXPECT_EQ(communicator.Split(0, 0).status(), cause);
}

// Runs one function per rank and returns their results in rank order.
std::vector<absl::Status> RunRanks(std::vector<std::unique_ptr<Communicator>>& worlds,
                                   const std::function<absl::Status(Communicator&)>& body) {
  std::vector<absl::Status> results(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t r = 0; r < worlds.size(); ++r) {
    ranks.emplace_back([&, r] { results[r] = body(*worlds[r]); });
  }
  for (std::thread& rank : ranks) rank.join();
  return results;
}

TEST(ThreadFailureTest, SilentPeerIsNamedAndTheWorldIsDead) {
  auto worlds = MakeThreadCommunicators(2, {.deadline = kShort});
  const absl::Status cause = Sum(*worlds[0], 576);
  EXPECT_EQ(cause, absl::DeadlineExceededError(
                       "AllReduceSum of 2304 bytes on world rank 0: no answer from world rank 1 "
                       "within 50ms"));
  ExpectDead(*worlds[0], cause);
  ExpectDead(*worlds[1], cause);
}

TEST(ThreadFailureTest, MessageThatNeverComes) {
  auto worlds = MakeThreadCommunicators(3, {.deadline = kShort});
  ASSERT_TRUE(worlds[1]->Send(2, 4, {}).ok());
  EXPECT_EQ(worlds[2]->Receive(1, 5).status(),
            absl::DeadlineExceededError(
                "Receive of 0 bytes on world rank 2: no answer from world rank 1 within 50ms"));
}

TEST(ThreadFailureTest, FailureReachesThePartsAndTheWorld) {
  auto worlds = MakeThreadCommunicators(4, {.deadline = absl::Seconds(60)});
  const std::vector<absl::Status> results = RunRanks(worlds, [](Communicator& world) {
    auto half = world.Split(world.rank() / 2, world.rank());
    if (!half.ok()) return half.status();
    // World rank 3 asks for something that does not exist; all others wait for something else.
    if (world.rank() == 3) return (*half)->Send(2, 0, {});
    if (world.rank() == 2) return (*half)->Barrier();
    return world.Receive(3, 0).status();
  });
  const absl::Status cause = absl::InvalidArgumentError(
      "Send of 0 bytes on world rank 3: peer 2 is not in [0, 2)");
  for (const absl::Status& result : results) EXPECT_EQ(result, cause);
  for (auto& world : worlds) ExpectDead(*world, cause);
}

TEST(ThreadFailureTest, LeavingEndsTheOthersWaits) {
  for (const bool collective : {false, true}) {
    auto worlds = MakeThreadCommunicators(3, {.deadline = absl::Seconds(60)});
    std::vector<absl::Status> results(2);
    std::vector<std::thread> ranks;
    for (size_t r : {0, 1}) {
      ranks.emplace_back([&, r] {
        results[r] = collective ? worlds[r]->Barrier() : worlds[r]->Receive(2, 0).status();
      });
    }
    worlds[2].reset();
    for (std::thread& rank : ranks) rank.join();
    for (const absl::Status& result : results) {
      EXPECT_EQ(result.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(result.message()), HasSubstr("world rank 2 has left the group"));
    }
  }
}

TEST(ThreadFailureTest, WhatWasSentBeforeLeavingArrives) {
  auto worlds = MakeThreadCommunicators(2, {.deadline = absl::Seconds(60)});
  ASSERT_TRUE(worlds[1]->Send(0, 0, Bytes(3)).ok());
  worlds[1].reset();
  const auto message = worlds[0]->Receive(1, 0);
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  EXPECT_EQ(message->size(), 3u);
  EXPECT_EQ(worlds[0]->TryReceive(1, 0).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ThreadFailureTest, UnequalLengthsAreAnError) {
  auto worlds = MakeThreadCommunicators(3, {});
  const std::vector<absl::Status> results =
      RunRanks(worlds, [](Communicator& world) { return Sum(world, world.rank() == 1 ? 5 : 6); });
  for (const absl::Status& result : results) {
    EXPECT_EQ(result.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(result.message()), HasSubstr("every rank must use the same length"));
  }
}

TEST(ThreadFailureTest, DifferentCollectivesAreAnError) {
  auto worlds = MakeThreadCommunicators(2, {});
  const std::vector<absl::Status> results = RunRanks(worlds, [](Communicator& world) {
    return world.rank() == 0 ? world.Barrier() : Sum(world, 0);
  });
  for (const absl::Status& result : results) {
    EXPECT_THAT(std::string(result.message()),
                AnyOf(HasSubstr("world rank 1 called AllReduceSum instead"),
                      HasSubstr("world rank 0 called Barrier instead")));
  }
}

struct BadCall {
  const char* name;
  absl::Status (*call)(Communicator&);
  const char* message;
};

void PrintTo(const BadCall& call, std::ostream* out) { *out << call.name; }

struct BadCallTest : testing::TestWithParam<BadCall> {};

TEST_P(BadCallTest, IsRefusedAndEndsTheGroup) {
  auto null = MakeNullCommunicator();
  auto threads = MakeThreadCommunicators(1, {.deadline = kShort});
  for (Communicator* world : {null.get(), threads[0].get()}) {
    const absl::Status status = GetParam().call(*world);
    EXPECT_EQ(status, absl::InvalidArgumentError(GetParam().message));
    ExpectDead(*world, status);
  }
}

INSTANTIATE_TEST_SUITE_P(
    , BadCallTest,
    testing::Values(
        BadCall{"PeerTooHigh", [](Communicator& world) { return world.Send(1, 0, Bytes(7)); },
                "Send of 7 bytes on world rank 0: peer 1 is not in [0, 1)"},
        BadCall{"PeerNegative", [](Communicator& world) { return world.Receive(-1, 0).status(); },
                "Receive of 0 bytes on world rank 0: peer -1 is not in [0, 1)"},
        BadCall{"TagTooHigh", [](Communicator& world) { return world.Send(0, 32768, {}); },
                "Send of 0 bytes on world rank 0: tag 32768 is not in [0, 32767]"},
        BadCall{"TagNegative",
                [](Communicator& world) { return world.TryReceive(0, -1).status(); },
                "TryReceive of 0 bytes on world rank 0: tag -1 is not in [0, 32767]"},
        BadCall{"Root",
                [](Communicator& world) {
                  Bytes data;
                  return world.Broadcast(2, data);
                },
                "Broadcast of 0 bytes on world rank 0: peer 2 is not in [0, 1)"},
        BadCall{"GatherRoom",
                [](Communicator& world) {
                  Bytes mine(3), all(4);
                  return world.AllGather(mine, absl::MakeSpan(all));
                },
                "AllGather of 3 bytes on world rank 0: room for 4 bytes, expected 1 times 3"},
        BadCall{"Color", [](Communicator& world) { return world.Split(-1, 0).status(); },
                "Split of 0 bytes on world rank 0: color -1 is negative"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(NullFailureTest, MessageThatCannotComeFailsAtOnce) {
  auto null = MakeNullCommunicator();
  const absl::Status status = null->Receive(0, 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  ExpectDead(*null, status);
}

}  // namespace
}  // namespace tessera::worker
