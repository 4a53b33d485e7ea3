#include "coordinator/group/launched_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

TEST(RelaunchBackoff, DoublesWhileItDoesNotComeToServe) {
  RelaunchBackoff backoff;
  EXPECT_EQ(backoff.After(absl::ZeroDuration()), absl::Seconds(1));
  EXPECT_EQ(backoff.After(absl::ZeroDuration()), absl::Seconds(2));
  EXPECT_EQ(backoff.After(absl::ZeroDuration()), absl::Seconds(4));
  for (int i = 0; i < 10; ++i) backoff.After(absl::ZeroDuration());
  EXPECT_EQ(backoff.After(absl::ZeroDuration()), absl::Seconds(30));
  EXPECT_EQ(backoff.failures, 14);
}

TEST(RelaunchBackoff, AGroupThatServedWellComesBackAtOnce) {
  RelaunchBackoff backoff;
  backoff.After(absl::ZeroDuration());
  EXPECT_EQ(backoff.After(absl::Minutes(1)), absl::ZeroDuration());
  EXPECT_EQ(backoff.failures, 0);
  EXPECT_EQ(backoff.After(absl::Milliseconds(200)), absl::Seconds(1)) << "one that dies at once";
}

}  // namespace
}  // namespace tessera::coordinator
