#include "coordinator/group/cluster_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/coordinator/group/fake_leader.h"
#include "tests/coordinator/group/recording_observer.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

v1::ShardPlan PlanOf(int ranks) {
  v1::ShardPlan plan;
  plan.set_tensor_parallel_size(ranks);
  plan.set_pipeline_parallel_size(1);
  for (int i = 0; i < ranks; ++i) plan.add_ranks()->set_world_rank(i);
  return plan;
}

v1::StepPlan Step(int64_t step_id) {
  v1::StepPlan step;
  step.set_step_id(step_id);
  return step;
}

class ClusterServiceTest : public ::testing::Test {
 protected:
  void Start(ClusterServiceOptions options = {}) {
    auto service = ClusterService::Start(options, &observers_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  std::unique_ptr<FakeLeader> NewLeader() { return std::make_unique<FakeLeader>(service_->port()); }

  ClusterServiceTest() {
    observers_.set_planner([](const v1::Hello& hello) { return PlanOf(hello.world_size()); });
  }

  // A group of two ranks that has said ready.
  std::unique_ptr<FakeLeader> ServingLeader(const std::string& group_id) {
    auto leader = NewLeader();
    EXPECT_TRUE(leader->Send(FakeLeader::Hello(group_id, 2)));
    auto plan = leader->Receive();
    EXPECT_TRUE(plan && plan->has_shard_plan());
    EXPECT_TRUE(leader->Send(FakeLeader::Ready()));
    EXPECT_TRUE(observer().AwaitReady());
    return leader;
  }

  RecordingObserver& observer() { return *observers_.back(); }

  RecordingObservers observers_;
  std::unique_ptr<ClusterService> service_;
};

TEST_F(ClusterServiceTest, AGroupJoinsWorksAndLeaves) {
  Start();
  auto leader = ServingLeader("a");
  auto transport = observer().record().transport;
  ASSERT_TRUE(transport->SendPlan(Step(7)).ok());
  ASSERT_TRUE(transport->SendPlan(Step(8)).ok());
  EXPECT_EQ(leader->Receive()->step_plan().step_id(), 7);
  EXPECT_EQ(leader->Receive()->step_plan().step_id(), 8);
  ASSERT_TRUE(leader->Send(FakeLeader::Result(7)));
  ASSERT_TRUE(leader->Send(FakeLeader::Result(8)));
  ASSERT_TRUE(observer().Await([](const auto& r) { return r.results.size() == 2; }));
  EXPECT_EQ(observer().record().results[1].step_id(), 8);

  transport->Shutdown("done");
  transport->Shutdown("twice does no harm");
  EXPECT_EQ(leader->Receive()->shutdown().reason(), "done");
  EXPECT_TRUE(leader->Leave().ok());
  ASSERT_TRUE(observer().AwaitLost());
  EXPECT_TRUE(observer().record().losses[0].ok()) << observer().record().losses[0];
  EXPECT_EQ(transport->SendPlan(Step(9)).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ClusterServiceTest, ADescriptionOf20MegabytesArrives) {
  Start();
  auto leader = NewLeader();
  v1::GroupMessage hello = FakeLeader::Hello("big", 2);
  auto* tokenizer = hello.mutable_hello()->mutable_model()->mutable_tokenizer();
  for (int i = 0; i < 20; ++i) tokenizer->add_tokens(std::string(1 << 20, 'x'));
  ASSERT_TRUE(leader->Send(hello));
  EXPECT_TRUE(leader->Receive()->has_shard_plan());
  EXPECT_GT(observer().record().description_bytes, 20 << 20);
}

TEST_F(ClusterServiceTest, ABrokenConnectionIsOneLoss) {
  Start();
  auto leader = ServingLeader("a");
  auto transport = observer().record().transport;
  leader->Vanish();
  ASSERT_TRUE(observer().AwaitLost());
  service_.reset();  // nothing more is called while the service goes down
  const auto losses = observer().record().losses;
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(losses[0].message()), HasSubstr("connection of the group's leader"));
  EXPECT_EQ(transport->SendPlan(Step(1)).code(), absl::StatusCode::kUnavailable);
  transport->Shutdown("of no effect");
}

TEST_F(ClusterServiceTest, TheGroupsOwnReasonIsTheReason) {
  Start();
  auto leader = ServingLeader("a");
  v1::GroupMessage failure;
  failure.mutable_failure()->set_world_rank(1);
  failure.mutable_failure()->set_message("out of memory\nat layer 3");
  ASSERT_TRUE(leader->Send(failure));
  EXPECT_THAT(std::string(leader->AwaitEnd().message()), HasSubstr("out of memory"));
  ASSERT_TRUE(observer().AwaitLost());
  EXPECT_EQ(observer().record().losses[0].message(), "rank 1: out of memory at layer 3");
}

TEST_F(ClusterServiceTest, AFailedRankEndsTheGroup) {
  Start();
  auto leader = ServingLeader("a");
  v1::RankReport report;
  report.set_group_id("a");
  report.set_world_rank(1);
  report.set_host("node7");
  report.set_phase(v1::RankReport::PHASE_FAILED);
  report.set_error("layers.2.wq: truncated");
  EXPECT_TRUE(leader->Report(report).ok());
  EXPECT_EQ(leader->AwaitEnd().message(), "rank 1 on node7: layers.2.wq: truncated");
  ASSERT_TRUE(observer().AwaitLost());
  EXPECT_EQ(observer().record().losses[0].message(), "rank 1 on node7: layers.2.wq: truncated");
}

TEST_F(ClusterServiceTest, ReportsGoToTheirGroupOnly) {
  Start();
  auto leader = ServingLeader("a");
  v1::RankReport report;
  report.set_group_id("a");
  report.set_world_rank(1);
  report.set_bytes_loaded(5);
  EXPECT_TRUE(leader->Report(report).ok());
  report.set_group_id("b");
  EXPECT_EQ(leader->Report(report).code(), absl::StatusCode::kNotFound);
  report.set_group_id("a");
  for (const int rank : {-1, 2}) {
    report.set_world_rank(rank);
    EXPECT_EQ(leader->Report(report).code(), absl::StatusCode::kInvalidArgument) << rank;
  }
  ASSERT_EQ(observer().record().reports.size(), 1u);
  EXPECT_EQ(observer().record().reports[0].bytes_loaded(), 5);
}

TEST_F(ClusterServiceTest, AGroupThatDoesNotFitIsToldWhy) {
  observers_.set_planner([](const v1::Hello&) -> absl::StatusOr<v1::ShardPlan> {
    return absl::InvalidArgumentError("-tp 16 is above the 9 heads");
  });
  Start();
  auto leader = NewLeader();
  ASSERT_TRUE(leader->Send(FakeLeader::Hello("a", 2)));
  const absl::Status refusal = leader->AwaitEnd();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refusal.message(), "-tp 16 is above the 9 heads");
  observers_.set_planner([](const v1::Hello& hello) { return PlanOf(hello.world_size()); });
  ServingLeader("b");  // its place is free again
  EXPECT_TRUE(observers_.at(0)->record().losses.empty()) << "never joined, so never lost";
}

TEST_F(ClusterServiceTest, AGroupWithTooFewRanksIsTurnedAway) {
  observers_.set_planner([](const v1::Hello&) { return PlanOf(4); });
  Start();
  auto leader = NewLeader();
  ASSERT_TRUE(leader->Send(FakeLeader::Hello("a", 2)));
  EXPECT_EQ(leader->AwaitEnd().message(), "the worker group has 2 ranks; the layout needs 4");
  EXPECT_TRUE(observer().AwaitLost());
}

// Which groups may stay is the observer's to say; what each of them says reaches it under its handle.
TEST_F(ClusterServiceTest, GroupsLiveSideBySideAndTheNextJoinsAfterALoss) {
  Start();
  auto first = ServingLeader("first");
  auto second = ServingLeader("second");
  ASSERT_EQ(observers_.size(), 2u);
  ASSERT_TRUE(first->Send(FakeLeader::Result(7)));
  ASSERT_TRUE(observers_.at(0)->Await([](const auto& r) { return r.results.size() == 1; }));
  EXPECT_TRUE(observers_.at(1)->record().results.empty());
  v1::RankReport report;
  report.set_group_id("second");
  EXPECT_TRUE(second->Report(report).ok());
  EXPECT_TRUE(observers_.at(0)->record().reports.empty());
  EXPECT_EQ(observers_.at(1)->record().reports.size(), 1u);

  first->Vanish();
  ASSERT_TRUE(observers_.at(0)->AwaitLost());
  EXPECT_TRUE(observers_.at(1)->record().losses.empty()) << "the other group was disturbed";
  ServingLeader("third");
}

TEST_F(ClusterServiceTest, AGroupIdLivesOnceAtATime) {
  Start();
  auto first = ServingLeader("first");
  auto second = NewLeader();
  ASSERT_TRUE(second->Send(FakeLeader::Hello("first", 2)));
  const absl::Status refusal = second->AwaitEnd();
  EXPECT_EQ(refusal.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refusal.message()), HasSubstr("first"));
  EXPECT_EQ(observers_.size(), 1u);
  EXPECT_TRUE(observer().record().losses.empty()) << "the first group was disturbed";

  first->Vanish();
  ASSERT_TRUE(observer().AwaitLost());
  // OnLost has been seen, but its id is free only once OnLost has returned.
  absl::Status status = absl::AlreadyExistsError("");
  while (absl::IsAlreadyExists(status)) {
    auto third = NewLeader();
    ASSERT_TRUE(third->Send(FakeLeader::Hello("first", 2)));
    auto answer = third->Receive();
    status = answer ? absl::OkStatus() : third->AwaitEnd();
  }
  EXPECT_TRUE(status.ok()) << status;
}

// As the leader parses it, whatever the plan holds.
TEST_F(ClusterServiceTest, APlanArrivesAsItWasSent) {
  Start();
  auto leader = ServingLeader("a");
  v1::StepPlan plan = Step(int64_t{1} << 40);
  for (int i = 0; i < 3000; ++i) {  // more than one block of bytes
    v1::SequenceChunk* chunk = plan.add_chunks();
    chunk->set_sequence_id(i);
    chunk->mutable_token_ids()->Resize(i % 50, i);
    chunk->mutable_sampling()->set_temperature(0.5f);
  }
  plan.add_copies()->set_source(3);
  const auto transport = observer().record().transport;
  ASSERT_TRUE(transport->SendPlan(plan).ok());
  ASSERT_TRUE(transport->SendPlan(v1::StepPlan()).ok());
  const auto large = leader->Receive();
  ASSERT_TRUE(large && large->has_step_plan());
  EXPECT_EQ(large->step_plan().SerializeAsString(), plan.SerializeAsString());
  const auto empty = leader->Receive();
  ASSERT_TRUE(empty && empty->has_step_plan());
  EXPECT_EQ(empty->step_plan().ByteSizeLong(), 0u);
}

struct Violation {
  const char* name;
  std::vector<v1::GroupMessage> messages;
  const char* complaint;
};

TEST_F(ClusterServiceTest, MessagesOutOfOrderEndTheGroup) {
  v1::GroupMessage other_version = FakeLeader::Hello("a", 2);
  other_version.mutable_hello()->set_protocol_version(5);
  v1::GroupMessage no_model = FakeLeader::Hello("a", 2);
  no_model.mutable_hello()->clear_model();
  const std::vector<Violation> violations = {
      {"version", {other_version}, "protocol 5"},
      {"world size 0", {FakeLeader::Hello("a", 0)}, "world_size is 0"},
      {"world size huge", {FakeLeader::Hello("a", 1 << 30)}, "expected 1 .. 4096"},
      {"no group id", {FakeLeader::Hello("", 2)}, "group_id"},
      {"long group id", {FakeLeader::Hello(std::string(1000, 'x'), 2)}, "1000 bytes"},
      {"no model", {no_model}, "model is missing"},
      {"empty", {v1::GroupMessage()}, "without a known body"},
      {"ready first", {FakeLeader::Ready()}, "before hello"},
      {"result first", {FakeLeader::Result(1)}, "before ready"},
      {"result before ready", {FakeLeader::Hello("a", 2), FakeLeader::Result(1)}, "before ready"},
      {"hello twice", {FakeLeader::Hello("a", 2), FakeLeader::Hello("a", 2)}, "hello twice"},
      {"ready twice",
       {FakeLeader::Hello("a", 2), FakeLeader::Ready(), FakeLeader::Ready()},
       "ready twice"},
  };
  Start();
  for (const Violation& violation : violations) {
    SCOPED_TRACE(violation.name);
    const size_t groups = observers_.size();
    auto leader = NewLeader();
    // A write after the stream's end fails, which is what is tested.
    for (const auto& message : violation.messages) (void)leader->Send(message);
    const absl::Status status = leader->AwaitEnd();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(violation.complaint));
    if (observers_.size() > groups) {
      EXPECT_TRUE(observer().AwaitLost());
      service_.reset();  // and a fresh one: the place of the last group may not be free yet
      EXPECT_EQ(observer().record().losses.size(), 1u);
      Start();
    }
  }
}

TEST_F(ClusterServiceTest, GoingDownTellsTheGroupAndWaitsForIt) {
  Start();
  auto leader = ServingLeader("a");
  std::thread group([&] {
    auto message = leader->Receive();
    EXPECT_TRUE(message && message->has_shutdown());
    EXPECT_TRUE(leader->Leave().ok());
  });
  service_.reset();
  ASSERT_EQ(observer().record().losses.size(), 1u);
  EXPECT_TRUE(observer().record().losses[0].ok());
  group.join();
}

TEST_F(ClusterServiceTest, AGroupThatDoesNotLeaveIsCutOff) {
  Start({.leave_timeout = absl::Milliseconds(50)});
  auto leader = ServingLeader("a");
  observer().record().transport->Shutdown("leave");
  ASSERT_TRUE(observer().AwaitLost());
  EXPECT_TRUE(observer().record().losses[0].ok()) << "a shutdown was asked for";
}

TEST_F(ClusterServiceTest, ASilentConnectionIsCutOff) {
  Start({.hello_timeout = absl::Milliseconds(50)});
  auto leader = NewLeader();
  EXPECT_THAT(std::string(leader->AwaitEnd().message()), HasSubstr("no hello"));
  EXPECT_TRUE(observers_.size() == 0);
}

TEST_F(ClusterServiceTest, TheOutgoingQueueIsBounded) {
  Start({.max_queued_messages = 4});
  auto leader = ServingLeader("a");
  auto transport = observer().record().transport;
  v1::StepPlan large = Step(1);
  large.add_chunks()->mutable_token_ids()->Resize(1 << 20, 1);  // the peer's window is smaller
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = transport->SendPlan(large);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(observer().record().losses.empty());
}

TEST_F(ClusterServiceTest, ATakenPortIsNamed) {
  Start();
  auto second = ClusterService::Start({.port = service_->port()}, &observers_);
  ASSERT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("127.0.0.1:", service_->port())));
}

}  // namespace
}  // namespace tessera::coordinator
