#include "coordinator/engine/drain_rate.h"

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

class DrainRateTest : public ::testing::Test {
 protected:
  // `per_second` requests end in each of `seconds`.
  void Run(int seconds, int per_second, bool busy = true) {
    for (int i = 0; i < seconds; ++i) {
      now_ += absl::Seconds(1);
      rate_.Observe(now_, per_second, busy);
    }
  }
  double SecondsFor(int requests) const { return absl::ToDoubleSeconds(rate_.TimeFor(requests)); }

  absl::Time now_ = absl::UnixEpoch();
  DrainRate rate_;
};

TEST_F(DrainRateTest, OneSecondWhileNothingIsKnown) {
  EXPECT_EQ(SecondsFor(1000), 1);
  rate_.Observe(now_, 0, true);
  EXPECT_EQ(SecondsFor(1000), 1);
}

TEST_F(DrainRateTest, FollowsWhatWasMeasured) {
  rate_.Observe(now_, 0, true);
  Run(100, 10);
  EXPECT_NEAR(SecondsFor(200), 20, 2);
  Run(100, 20);
  EXPECT_NEAR(SecondsFor(200), 10, 1);
}

TEST_F(DrainRateTest, AnAnswerIsBetweenASecondAndAMinute) {
  rate_.Observe(now_, 0, true);
  Run(30, 10);
  EXPECT_EQ(SecondsFor(1), 1);
  EXPECT_EQ(SecondsFor(1'000'000), 60);
  Run(1000, 0);
  EXPECT_EQ(SecondsFor(5), 60) << "nothing moves";
}

TEST_F(DrainRateTest, AnIdleServerLearnsNothing) {
  rate_.Observe(now_, 0, true);
  Run(100, 10);
  Run(1000, 0, /*busy=*/false);
  EXPECT_NEAR(SecondsFor(200), 20, 2);
}

}  // namespace
}  // namespace tessera::coordinator
