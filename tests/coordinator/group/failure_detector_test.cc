#include "coordinator/group/failure_detector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(1);
constexpr absl::Duration kBeat = absl::Milliseconds(250);
constexpr absl::Duration kLook = absl::Milliseconds(50);

class FailureDetectorTest : public ::testing::Test {
 protected:
  std::string Why(absl::Status status) { return std::string(status.message()); }
  // Every rank is heard of every 250 ms for so long, but for those from `silent` on; and somebody
  // looks every 50 ms.
  absl::Status Live(absl::Duration time, int ranks = 2, int silent = 1'000) {
    for (const absl::Time end = now_ + time; now_ < end; now_ += kLook) {
      for (int rank = 0; now_ >= next_beat_ && rank < std::min(ranks, silent); ++rank) {
        detector_.Heard(rank, rank < 2 ? "a" : "b", now_);
      }
      if (now_ >= next_beat_) next_beat_ = now_ + kBeat;
      if (absl::Status alive = detector_.Check(now_); !alive.ok()) return alive;
    }
    return absl::OkStatus();
  }
  // Steps that take what was expected.
  void Warm(int steps, absl::Duration each) {
    for (int i = 0; i < steps; ++i) {
      detector_.StepSent(++step_, each, now_);
      now_ += each;
      detector_.StepDone(step_, now_);
    }
  }

  FailureDetector detector_{{.timeout = kTimeout}};
  absl::Time now_ = absl::FromUnixSeconds(1'000);
  absl::Time next_beat_ = now_;
  int64_t step_ = 0;
};

TEST_F(FailureDetectorTest, ASilentRankIsNamedWithinTheTimeoutAlsoWhileIdle) {
  ASSERT_TRUE(Live(absl::Seconds(10)).ok());
  const absl::Time last = next_beat_ - kBeat;
  const absl::Status lost = Live(absl::Seconds(10), 2, /*silent=*/1);
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(FailureDetector::IsSilence(lost));
  EXPECT_THAT(Why(lost), HasSubstr("rank 1 on a has not been heard of for 1.0 s"));
  EXPECT_LE(now_ - last, kTimeout + kLook);
}

TEST_F(FailureDetectorTest, AHostAndTheWholeGroupAreToldApart) {
  ASSERT_TRUE(Live(absl::Seconds(1), 4).ok());
  EXPECT_THAT(Why(Live(absl::Seconds(3), 4, /*silent=*/2)),
              HasSubstr("the 2 ranks on b have not been heard of"));
  next_beat_ = now_;
  ASSERT_TRUE(Live(absl::Seconds(1), 4).ok());
  EXPECT_THAT(Why(Live(absl::Seconds(3), 4, /*silent=*/0)),
              HasSubstr("all 4 ranks have not been heard of"));
}

TEST_F(FailureDetectorTest, WhoeverSendsNoSignsIsNeverMissed) {
  detector_.Heard(0, "a", now_);
  EXPECT_EQ(detector_.next_check(), absl::InfiniteFuture());
  EXPECT_TRUE(detector_.Check(now_ + absl::Hours(1)).ok());
}

TEST_F(FailureDetectorTest, AStepThatHangsIsFoundThoughEveryRankIsAlive) {
  Warm(100, absl::Milliseconds(10));
  ASSERT_TRUE(Live(absl::Seconds(1)).ok());
  detector_.StepSent(++step_, absl::Milliseconds(10), now_);
  const absl::Time sent = now_;
  const absl::Status lost = Live(absl::Seconds(10));
  EXPECT_THAT(Why(lost), HasSubstr("step 101 is not back after 1."));
  EXPECT_THAT(Why(lost), HasSubstr("every rank is alive"));
  EXPECT_FALSE(FailureDetector::IsSilence(lost));
  EXPECT_LE(now_ - sent, absl::Seconds(1.5));
}

TEST_F(FailureDetectorTest, ALongStepHasLongerAndTheFirstOnesMuch) {
  detector_.StepSent(++step_, absl::Milliseconds(10), now_);
  EXPECT_TRUE(Live(absl::Seconds(50)).ok()) << "the first";
  detector_.StepDone(step_, now_);
  Warm(200, absl::Milliseconds(10));
  detector_.StepSent(++step_, absl::Seconds(5), now_);
  EXPECT_TRUE(Live(absl::Seconds(30)).ok()) << "a long prompt";
  detector_.StepDone(step_, now_);
  detector_.StepSent(++step_, absl::ZeroDuration(), now_);
  EXPECT_TRUE(Live(absl::Seconds(50)).ok()) << "of unknown cost";
  EXPECT_FALSE(Live(absl::Seconds(20)).ok());
}

TEST_F(FailureDetectorTest, StepsTimeRunsFromTheEndOfTheOneBefore) {
  Warm(100, absl::Milliseconds(400));
  ASSERT_TRUE(Live(absl::Seconds(1)).ok());
  for (int i = 1; i <= 8; ++i) detector_.StepSent(step_ + i, absl::Milliseconds(400), now_);
  for (int i = 1; i <= 8; ++i) {
    ASSERT_TRUE(Live(absl::Milliseconds(2'000)).ok()) << i;
    detector_.StepDone(step_ + i, now_);
  }
}

TEST_F(FailureDetectorTest, ACoordinatorThatWasHeldUpBlamesNobody) {
  Warm(100, absl::Milliseconds(10));
  ASSERT_TRUE(Live(absl::Seconds(1)).ok());
  detector_.StepSent(++step_, absl::Milliseconds(10), now_);
  now_ += absl::Minutes(10);  // the lid was closed
  EXPECT_TRUE(detector_.Check(now_).ok());
  detector_.StepDone(step_, now_);
  EXPECT_TRUE(Live(absl::Milliseconds(750)).ok());
  EXPECT_FALSE(Live(absl::Seconds(3), 2, 1).ok()) << "and whoever is gone is still found";
}

TEST_F(FailureDetectorTest, OneThatIsAlwaysHeldUpFindsASilentRankAllTheSame) {
  ASSERT_TRUE(Live(absl::Seconds(1)).ok());
  absl::Status alive;
  for (int i = 0; i < 6 && alive.ok(); ++i) alive = detector_.Check(now_ += absl::Seconds(2));
  EXPECT_FALSE(alive.ok());
}

TEST_F(FailureDetectorTest, WithoutATimeoutNobodyIsGivenUp) {
  FailureDetector off({.timeout = absl::InfiniteDuration()});
  for (int i = 0; i < 3; ++i) off.Heard(0, "a", now_);
  off.StepSent(1, absl::Milliseconds(1), now_);
  EXPECT_EQ(off.next_check(), absl::InfiniteFuture());
  EXPECT_TRUE(off.Check(now_ + absl::Hours(5)).ok());
}

// An hour on a loaded machine of two cores: signs of life come up to 0.7 s late, steps take up to
// four times what was expected (the first one a hundred times), and the coordinator is held up now
// and then.
TEST_F(FailureDetectorTest, AnHourOnALoadedMachineIsNoFailure) {
  constexpr int kRanks = 4;
  std::mt19937 random(20261201);
  const auto draw = [&](double low, double high) {
    return absl::Milliseconds(std::uniform_real_distribution<double>(low, high)(random));
  };
  const auto chance = [&](double part) {
    return std::uniform_real_distribution<double>(0, 1)(random) < part;
  };
  absl::Time next_sign[kRanks];
  for (absl::Time& next : next_sign) next = now_ + draw(0, 250);
  absl::Time step_ends = absl::InfiniteFuture();
  int64_t steps = 0;
  const absl::Time end = now_ + absl::Hours(1);
  while (now_ < end) {
    now_ += chance(0.0002) ? draw(1'000, 5'000) : draw(1, 30);  // held up; or an ordinary turn
    for (int rank = 0; rank < kRanks; ++rank) {
      if (now_ < next_sign[rank]) continue;
      detector_.Heard(rank, "a", now_);
      next_sign[rank] = now_ + (chance(0.01) ? draw(250, 700) : draw(240, 320));
    }
    if (now_ >= step_ends) {
      detector_.StepDone(steps, now_);
      step_ends = absl::InfiniteFuture();
    }
    if (step_ends == absl::InfiniteFuture() && chance(0.7)) {
      const bool long_prompt = chance(0.01);
      const absl::Duration expected = long_prompt ? draw(500, 3'000) : draw(5, 40);
      const double excess = steps == 0 ? 100 : chance(0.02) ? 4 : 1.2;
      ++steps;
      detector_.StepSent(steps, steps < 5 ? absl::ZeroDuration() : expected, now_);
      step_ends = now_ + excess * expected;
    }
    const absl::Status alive = detector_.Check(now_);
    ASSERT_TRUE(alive.ok()) << alive << " after " << steps << " steps, " << (end - now_) << " left";
  }
  EXPECT_GT(steps, 10'000);
}

}  // namespace
}  // namespace tessera::coordinator
