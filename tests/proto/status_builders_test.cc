#include "proto/wire/status_builders.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "proto/base/annotate.h"

namespace tessera::wire {
namespace {

TEST(StatusBuildersTest, FieldErrorNamesTheFieldForPeopleAndMachines) {
  const absl::Status status = FieldError("sampling.temperature", "is NaN; expected 0 .. 100");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "sampling.temperature is NaN; expected 0 .. 100");
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest detail;
  ASSERT_TRUE(detail.ParseFromString(std::string(*payload)));
  ASSERT_EQ(detail.field_violations_size(), 1);
  EXPECT_EQ(detail.field_violations(0).field(), "sampling.temperature");
  EXPECT_EQ(detail.field_violations(0).description(), "is NaN; expected 0 .. 100");
  EXPECT_FALSE(RetryAfter(status).has_value());
}

TEST(StatusBuildersTest, OverloadedErrorSaysWhenToComeBack) {
  for (const absl::Duration wait :
       {absl::ZeroDuration(), absl::Nanoseconds(1), absl::Milliseconds(1500), absl::Hours(100)}) {
    const absl::Status status = OverloadedError("the queue is full", wait);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(status.message(), "the queue is full");
    ASSERT_TRUE(RetryAfter(status).has_value());
    EXPECT_EQ(*RetryAfter(status), wait);
  }
}

TEST(StatusBuildersTest, RetryAfterOfOthers) {
  EXPECT_FALSE(RetryAfter(absl::OkStatus()).has_value());
  EXPECT_FALSE(RetryAfter(absl::ResourceExhaustedError("no detail")).has_value());
  absl::Status garbage = absl::ResourceExhaustedError("garbage");
  garbage.SetPayload("type.googleapis.com/google.rpc.RetryInfo", absl::Cord("\xff\xff\xff"));
  EXPECT_FALSE(RetryAfter(garbage).has_value());
}

TEST(StatusBuildersTest, AnnotateKeepsCodeAndDetails) {
  const absl::Status annotated =
      Annotate(OverloadedError("the queue is full", absl::Seconds(2)), "group 3");
  EXPECT_EQ(annotated.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(annotated.message(), "group 3: the queue is full");
  EXPECT_EQ(RetryAfter(annotated), absl::Seconds(2));
  EXPECT_EQ(Annotate(absl::OkStatus(), "group 3"), absl::OkStatus());
}

}  // namespace
}  // namespace tessera::wire
