#include "proto/wire/grpc_status.h"

#include <string>

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "proto/wire/status_builders.h"

namespace tessera::wire {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";

TEST(GrpcStatusTest, OkStaysOk) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_EQ(FromGrpc(grpc::Status::OK), absl::OkStatus());
}

TEST(GrpcStatusTest, EveryCodeRoundTrips) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const grpc::Status sent = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(sent.error_code()), code);
    EXPECT_EQ(sent.error_message(), "why");
    EXPECT_TRUE(sent.error_details().empty()) << "no details, no trailer";
    EXPECT_EQ(FromGrpc(sent), status);
  }
}

TEST(GrpcStatusTest, DetailsRoundTrip) {
  absl::Status status = OverloadedError("the queue is full", absl::Milliseconds(250));
  google::rpc::ErrorInfo info;
  info.set_reason("QUEUE_FULL");
  info.set_domain("tessera");
  (*info.mutable_metadata())["waiting"] = "1024";
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));

  const absl::Status back = FromGrpc(ToGrpc(status));
  EXPECT_EQ(back, status);
  EXPECT_EQ(RetryAfter(back), absl::Milliseconds(250));
  google::rpc::ErrorInfo received;
  ASSERT_TRUE(received.ParseFromString(std::string(*back.GetPayload(kErrorInfoUrl))));
  EXPECT_EQ(received.reason(), "QUEUE_FULL");
  EXPECT_EQ(received.metadata().at("waiting"), "1024");

  const absl::Status field = FieldError("max_tokens", "is 0; expected 1 .. 8192");
  EXPECT_EQ(FromGrpc(ToGrpc(field)), field);
}

// What a stock client decodes from grpc-status-details-bin: a google.rpc.Status that repeats code
// and message.
TEST(GrpcStatusTest, DetailsAreAGoogleRpcStatus) {
  const grpc::Status sent = ToGrpc(FieldError("max_tokens", "is 0"));
  google::rpc::Status proto;
  ASSERT_TRUE(proto.ParseFromString(sent.error_details()));
  EXPECT_EQ(proto.code(), static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  EXPECT_EQ(proto.message(), "max_tokens is 0");
  ASSERT_EQ(proto.details_size(), 1);
  google::rpc::BadRequest detail;
  ASSERT_TRUE(proto.details(0).UnpackTo(&detail));
  EXPECT_EQ(detail.field_violations(0).field(), "max_tokens");
}

TEST(GrpcStatusTest, GarbageInTheDetailsLeavesCodeAndMessage) {
  const grpc::Status sent(grpc::StatusCode::UNAVAILABLE, "draining", "\xff\xff\xff\xff");
  EXPECT_EQ(FromGrpc(sent), absl::UnavailableError("draining"));
}

}  // namespace
}  // namespace tessera::wire
