// Several groups under one router: who may join, and which one a request goes to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "coordinator/router/router.h"
#include "tests/coordinator/engine/fake_transport_group.h"
#include "tests/coordinator/engine/recording_sink.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::ByteModel;
using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using tessera::testing::RecordingSink;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::ModelDescription OtherModel(const std::string& name) {
  v1::ModelDescription model = ByteModel();
  model.set_name(name);
  return model;
}

class ManyGroupsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.layout.max_sequences_per_step = 4;
    options.limits.lookahead = false;
    router_ = Router::Create(options);
  }

  static PreparedRequest Request(int prompt_tokens, char token = 'p') {
    PreparedRequest request;
    request.prompt_ids.assign(static_cast<size_t>(prompt_tokens), token);
    request.sampling.set_max_tokens(4);
    return request;
  }
  std::shared_ptr<RecordingSink> Submit(PreparedRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const auto id = router_->Submit(std::move(request), sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return sink;
  }

  std::unique_ptr<Router> router_;
};

TEST_F(ManyGroupsTest, RequestsAreSharedBetweenThem) {
  FakeTransportGroup first(router_.get()), second(router_.get());
  ASSERT_TRUE(first.Join().ok());
  ASSERT_TRUE(second.Join().ok());
  auto a = Submit(Request(3));
  auto b = Submit(Request(3, 'q'));
  first.Answer(4);
  second.Answer(4);
  EXPECT_TRUE(a->WaitForEnd());
  EXPECT_TRUE(b->WaitForEnd());
  const v1::GetClusterStatusResponse status = router_->Status();
  ASSERT_EQ(status.groups_size(), 2);
  EXPECT_EQ(status.groups(0).group(), 0);
  EXPECT_EQ(status.groups(1).group(), 1);
}

TEST_F(ManyGroupsTest, AConversationGoesWhereItsPrefixIs) {
  FakeTransportGroup first(router_.get()), second(router_.get());
  ASSERT_TRUE(first.Join().ok());
  ASSERT_TRUE(second.Join().ok());
  auto a = Submit(Request(128, 'a'));  // to the first
  auto b = Submit(Request(128, 'b'));  // to the second
  first.Answer(4);
  second.Answer(4);
  ASSERT_TRUE(a->WaitForEnd());
  ASSERT_TRUE(b->WaitForEnd());
  ASSERT_TRUE(Eventually([&] { return router_->Status().requests_running() == 0; }));
  auto again = Submit(Request(150, 'b'));
  const v1::StepPlan plan = second.TakePlan();
  EXPECT_EQ(plan.chunks(0).start_position(), 128);
  second.Reply(second.ResultOf(plan));
  second.Answer(3);
  EXPECT_TRUE(again->WaitForEnd());
}

TEST_F(ManyGroupsTest, TenantsPrefixesAreTheirOwn) {
  FakeTransportGroup first(router_.get()), second(router_.get());
  ASSERT_TRUE(first.Join().ok());
  ASSERT_TRUE(second.Join().ok());
  PreparedRequest mine = Request(128, 'a');
  mine.tenant = "me";
  auto a = Submit(mine);
  first.Answer();  // and streams on there
  ASSERT_TRUE(a->WaitForTokens(1));
  PreparedRequest theirs = Request(128, 'a');
  theirs.tenant = "they";
  auto b = Submit(theirs);
  second.Answer(4);
  EXPECT_TRUE(b->WaitForEnd());
}

TEST_F(ManyGroupsTest, EachModelHasItsName) {
  FakeTransportGroup first(router_.get()), other(router_.get(), OtherModel("other"));
  ASSERT_TRUE(first.Join().ok());
  ASSERT_TRUE(other.Join().ok());
  ASSERT_THAT(router_->models(), SizeIs(2));
  PreparedRequest request = Request(3);
  request.model = router_->models()[1];
  EXPECT_EQ(request.model->name, "other");
  auto sink = Submit(std::move(request));
  other.Answer(4);
  EXPECT_TRUE(sink->WaitForEnd());
}

TEST_F(ManyGroupsTest, AnotherModelOfTheSameNameIsTurnedAway) {
  FakeTransportGroup first(router_.get());
  ASSERT_TRUE(first.Join().ok());
  v1::ModelDescription changed = ByteModel();
  changed.mutable_tokenizer()->set_tokens(3, "changed");
  FakeTransportGroup second(router_.get(), changed);
  const absl::Status refusal = second.Hello().status();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refusal.message()), HasSubstr("another model is served as bytes"));
  EXPECT_TRUE(router_->serving());
  EXPECT_THAT(router_->models(), SizeIs(1));
}

TEST_F(ManyGroupsTest, OneThatLeavesTakesNobodyWithIt) {
  FakeTransportGroup first(router_.get()), second(router_.get());
  ASSERT_TRUE(first.Join().ok());
  ASSERT_TRUE(second.Join().ok());
  first.Lose(absl::OkStatus());
  EXPECT_TRUE(router_->serving());
  auto sink = Submit(Request(3));
  second.Answer(4);
  EXPECT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(router_->Status().lost_groups_size(), 0);
}

}  // namespace
}  // namespace tessera::coordinator
