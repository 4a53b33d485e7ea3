// Requests whose group was lost: the client sees a pause, and what it would have seen without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "coordinator/router/router.h"
#include "tests/coordinator/engine/fake_transport_group.h"
#include "tests/coordinator/engine/recording_metrics.h"
#include "tests/coordinator/engine/recording_sink.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using tessera::testing::RecordingMetrics;
using tessera::testing::RecordingSink;
using ::testing::HasSubstr;

class ReplayTest : public ::testing::Test {
 protected:
  void SetUp() override { Make(absl::Minutes(1)); }
  void Make(absl::Duration patience) {
    EngineOptions options;
    options.layout.max_sequences_per_step = 4;
    options.limits.lookahead = false;  // so that a test knows what the next plan holds
    options.metrics = &metrics_;
    router_ = Router::Create(options, {.patience = patience});
  }

  static PreparedRequest Request(int max_tokens) {
    PreparedRequest request;
    request.prompt_ids = {'p', 'p', 'p'};
    request.sampling.set_max_tokens(max_tokens);
    request.request_id = "id";
    return request;
  }
  std::shared_ptr<RecordingSink> Submit(PreparedRequest request, int64_t* id = nullptr) {
    auto sink = std::make_shared<RecordingSink>();
    const auto submitted = router_->Submit(std::move(request), sink);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (id != nullptr) *id = *submitted;
    return sink;
  }
  std::unique_ptr<FakeTransportGroup> NewGroup(const std::string& text = "pppHello, world") {
    auto group = std::make_unique<FakeTransportGroup>(router_.get());
    group->set_text(text);
    EXPECT_TRUE(group->Join().ok());
    return group;
  }
  // Which is then under way.
  static void AnswerUntilBothAreInAStep(FakeTransportGroup& group) {
    for (v1::StepPlan plan = group.TakePlan(); plan.chunks_size() < 2; plan = group.TakePlan()) {
      group.Reply(group.ResultOf(plan));
    }
  }
  bool Stranded(int count) {
    return Eventually([&] { return router_->Status().requests_stranded() == count; });
  }

  RecordingMetrics metrics_;
  std::unique_ptr<Router> router_;
};

TEST_F(ReplayTest, AnotherGroupGoesOnInTheMiddleOfAWord) {
  auto first = NewGroup();
  auto sink = Submit(Request(12));
  first->Answer(4);
  ASSERT_TRUE(sink->WaitForTokens(4));
  auto second = NewGroup();
  first->Lose(absl::UnavailableError("gone"));
  second->Run();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_TRUE(sink->status().ok()) << sink->status();
  EXPECT_EQ(sink->text(), "Hello, world");
  EXPECT_EQ(sink->last().usage().completion_tokens(), 12);
  EXPECT_EQ(sink->last().usage().prompt_tokens(), 3);
  const v1::GetClusterStatusResponse status = router_->Status();
  EXPECT_EQ(status.requests_moved(), 1);
  ASSERT_EQ(status.lost_groups_size(), 1);
  EXPECT_EQ(status.lost_groups(0).error(), "gone");
  EXPECT_EQ(status.lost_groups(0).requests_moved(), 1);
  EXPECT_GT(status.lost_groups(0).resume_micros(), 0);
  EXPECT_EQ(metrics_.groups_lost(), 1);
  EXPECT_EQ(metrics_.moved(), 1);
}

TEST_F(ReplayTest, WithoutAnotherGroupTheyWaitForTheNext) {
  auto first = NewGroup();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(Request(12)));  // 4 run, 2 wait
  first->Answer(3);
  ASSERT_TRUE(sinks[0]->WaitForTokens(2));
  first->Lose(absl::UnavailableError("gone"));
  ASSERT_TRUE(Stranded(6));
  EXPECT_FALSE(router_->serving());
  EXPECT_TRUE(router_->CheckAdmission().ok()) << "one that comes now waits as well";
  sinks.push_back(Submit(Request(12)));
  ASSERT_TRUE(Stranded(7));
  auto second = NewGroup();
  second->Run();
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->text(), "Hello, world");
    EXPECT_EQ(sink->ends(), 1);
  }
}

TEST_F(ReplayTest, AStopStringThatHadBegunIsStillFound) {
  auto first = NewGroup("pppone END of it");
  PreparedRequest request = Request(50);
  request.sampling.add_stop("END");
  auto sink = Submit(std::move(request));
  first->Answer(6);  // "one EN"
  ASSERT_TRUE(sink->WaitForTokens(6));
  auto second = NewGroup("pppone END of it");
  first->Lose(absl::UnavailableError("gone"));
  second->Run();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "one ");
  EXPECT_EQ(sink->last().finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(ReplayTest, ChoicesGoOnEachOnItsOwn) {
  auto first = NewGroup();
  PreparedRequest request = Request(12);
  request.sampling.set_n(3);
  request.sampling.set_seed(5);
  auto sink = Submit(std::move(request));
  first->Answer(4);
  ASSERT_TRUE(sink->WaitForTokens(5));
  auto second = NewGroup();
  first->Lose(absl::UnavailableError("gone"));
  second->Run();
  ASSERT_TRUE(sink->WaitForEnd());
  for (int choice = 0; choice < 3; ++choice) EXPECT_EQ(sink->text_of(choice), "Hello, world");
}

TEST_F(ReplayTest, OneThatIsCancelledMeanwhileStaysSo) {
  auto first = NewGroup();
  int64_t id = 0;
  auto sink = Submit(Request(12), &id);
  first->Answer();
  ASSERT_TRUE(sink->WaitForTokens(1));
  first->Lose(absl::UnavailableError("gone"));
  router_->Cancel(id);
  ASSERT_TRUE(Stranded(0));
  auto second = NewGroup();
  second->Run();
  auto other = Submit(Request(2));
  ASSERT_TRUE(other->WaitForEnd());
  EXPECT_EQ(sink->ends(), 0);
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_running() == 0; }));
}

TEST_F(ReplayTest, OneThatIsAbortedMeanwhileHearsOfIt) {
  auto first = NewGroup();
  int64_t id = 0;
  auto sink = Submit(Request(12), &id);
  first->Lose(absl::UnavailableError("gone"));
  router_->Abort(id, absl::CancelledError("enough"));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status(), absl::CancelledError("enough"));
}

TEST_F(ReplayTest, ItsDeadlinePassesAlsoWithoutAGroup) {
  auto first = NewGroup();
  PreparedRequest request = Request(12);
  request.deadline = absl::Now() + absl::Milliseconds(30);
  auto sink = Submit(std::move(request));
  first->Lose(absl::UnavailableError("gone"));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ReplayTest, PatienceEndsAndSoDoesHope) {
  Make(absl::Milliseconds(20));
  auto first = NewGroup();
  auto sink = Submit(Request(12));
  first->Lose(absl::UnavailableError("127.0.0.1:41234: reset"));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(sink->status().message().find("127"), absl::string_view::npos);

  Make(absl::Hours(1));
  auto second = NewGroup();
  sink = Submit(Request(12));
  second->Lose(absl::UnavailableError("gone"));
  ASSERT_TRUE(Stranded(1));
  router_->GiveUp(absl::UnavailableError("nobody comes"));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().message(), "nobody comes");
  EXPECT_EQ(router_->CheckAdmission().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(router_->model(), nullptr);
}

TEST_F(ReplayTest, DrainingDoesNotWaitForAGroupThatDoesNotCome) {
  auto first = NewGroup();
  auto sink = Submit(Request(12));
  first->Lose(absl::UnavailableError("gone"));
  ASSERT_TRUE(Stranded(1));
  router_->Drain(absl::Milliseconds(20));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ReplayTest, ARequestThatKilledTwoGroupsIsFailedAloneAndByName) {
  auto first = NewGroup();
  auto good = Submit(Request(12));
  first->Answer(2);
  ASSERT_TRUE(good->WaitForTokens(2));
  PreparedRequest request = Request(12);
  request.request_id = "poison";
  auto poison = Submit(std::move(request));
  AnswerUntilBothAreInAStep(*first);
  first->Lose(absl::UnavailableError("killed"));
  ASSERT_TRUE(Stranded(2));
  auto second = NewGroup();
  AnswerUntilBothAreInAStep(*second);
  second->Lose(absl::UnavailableError("killed again"));
  ASSERT_TRUE(poison->WaitForEnd());
  EXPECT_EQ(poison->status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(poison->status().message()), HasSubstr("request poison was being computed when 2 worker groups were lost"));
  auto third = NewGroup();
  third->Run();
  ASSERT_TRUE(good->WaitForEnd());
  EXPECT_EQ(good->text(), "Hello, world");
}

TEST_F(ReplayTest, AnotherModelDoesNotGoOnWithIt) {
  auto first = NewGroup();
  auto sink = Submit(Request(12));
  first->Answer(4);
  ASSERT_TRUE(sink->WaitForTokens(4));
  first->Lose(absl::UnavailableError("gone"));
  ASSERT_TRUE(Stranded(1));
  v1::ModelDescription other = tessera::testing::ByteModel();
  other.mutable_tokenizer()->set_tokens(3, "changed");
  other.set_name("other");
  FakeTransportGroup stranger(router_.get(), other);
  ASSERT_TRUE(stranger.Join().ok());
  EXPECT_EQ(router_->Status().requests_stranded(), 1) << "another model went on with it";
  auto second = NewGroup();
  second->Run();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "Hello, world");
}

}  // namespace
}  // namespace tessera::coordinator
