// A second group that joins over the wire: what it hears, and that the first one serves on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "coordinator/group/cluster_service.h"
#include "coordinator/router/router.h"
#include "tests/coordinator/engine/fake_transport_group.h"
#include "tests/coordinator/group/fake_leader.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::ByteModel;
using tessera::testing::Eventually;

class SecondGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    router_ = Router::Create({});
    auto service = ClusterService::Start({}, router_.get());
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }
  void TearDown() override { service_ = nullptr; }

  std::unique_ptr<FakeLeader> Join(const std::string& group_id) {
    auto leader = std::make_unique<FakeLeader>(service_->port());
    v1::GroupMessage hello = FakeLeader::Hello(group_id, 1);
    *hello.mutable_hello()->mutable_model() = ByteModel();
    EXPECT_TRUE(leader->Send(hello));
    return leader;
  }

  std::unique_ptr<Router> router_;
  std::unique_ptr<ClusterService> service_;
};

TEST_F(SecondGroupTest, IsTurnedAwayUntilTheFirstIsLost) {
  auto first = Join("first");
  ASSERT_TRUE(first->Receive().has_value());
  ASSERT_TRUE(first->Send(FakeLeader::Ready()));
  ASSERT_TRUE(router_->WaitServing(absl::Minutes(1)).ok());

  const absl::Status refusal = Join("second")->AwaitEnd();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(refusal.message(),
            "this coordinator already has a worker group (first); one at a time");
  EXPECT_TRUE(router_->serving()) << "the first group was disturbed";
  EXPECT_EQ(router_->Status().groups_size(), 1);

  first->Vanish();
  ASSERT_TRUE(Eventually([&] { return !router_->serving(); }));
  auto third = Join("third");
  ASSERT_TRUE(third->Receive().has_value());
  ASSERT_TRUE(third->Send(FakeLeader::Ready()));
  EXPECT_TRUE(Eventually([&] { return router_->serving(); }));
}

}  // namespace
}  // namespace tessera::coordinator
