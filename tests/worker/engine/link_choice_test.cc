// Which links a group of ranks chooses, as threads of this process: all on one host.
#include "worker/engine/link_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;

// What every rank is told.
std::vector<absl::StatusOr<bool>> Choose(const std::vector<LinkPlace>& places,
                                         const std::vector<LinkPreference>& preferences) {
  const int size = static_cast<int>(places.size());
  auto worlds = MakeThreadCommunicators(size, {});
  std::vector<absl::StatusOr<bool>> chosen(size, absl::UnknownError("not asked"));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.emplace_back([&, rank] {
      chosen[rank] = ChooseLinks(*worlds[rank], preferences[rank], places[rank]);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return chosen;
}

std::vector<absl::StatusOr<bool>> Choose(const std::vector<LinkPlace>& places,
                                         LinkPreference preference) {
  return Choose(places, std::vector<LinkPreference>(places.size(), preference));
}

TEST(LinkChoiceTest, GpusOfTheirOwnAreJoinedByNccl) {
  for (const LinkPreference preference : {LinkPreference::kAuto, LinkPreference::kNccl}) {
    for (const auto& chosen : Choose({{0, true}, {1, true}, {2, true}}, preference)) {
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      EXPECT_TRUE(*chosen);
    }
  }
  for (const auto& chosen : Choose({{0, true}, {1, true}}, LinkPreference::kMpi)) {
    EXPECT_FALSE(chosen.value());
  }
}

TEST(LinkChoiceTest, WhoeverCannotBeJoinedMakesAllGoThroughTheHost) {
  const std::vector<std::vector<LinkPlace>> hindered = {
      {{0, true}, {0, true}}, {{0, true}, {-1, true}}, {{0, true}, {1, false}}};
  const char* const reasons[] = {"ranks 0 and 1 share GPU 0", "rank 1 does not compute on a GPU",
                                 "rank 1 was built without NCCL"};
  for (size_t i = 0; i < hindered.size(); ++i) {
    for (const auto& chosen : Choose(hindered[i], LinkPreference::kAuto)) {
      EXPECT_FALSE(chosen.value());
    }
    for (const auto& chosen : Choose(hindered[i], LinkPreference::kNccl)) {
      EXPECT_EQ(chosen.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(chosen.status().message()), HasSubstr(reasons[i]));
    }
  }
}

TEST(LinkChoiceTest, OneRankNeedsNoLinks) {
  EXPECT_FALSE(Choose({{0, true}}, LinkPreference::kAuto)[0].value());
}

TEST(LinkChoiceTest, RanksThatWereAskedForDifferentThingsAreTold) {
  for (const auto& chosen :
       Choose({{0, true}, {1, true}}, {LinkPreference::kAuto, LinkPreference::kMpi})) {
    EXPECT_THAT(std::string(chosen.status().message()), HasSubstr("--comm differs"));
  }
}

}  // namespace
}  // namespace tessera::worker
