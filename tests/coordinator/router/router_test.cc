// The router and its engine over a fake group that answers step by step: nothing here waits for time
// to pass.

#include "coordinator/router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "proto/wire/status_builders.h"
#include "tests/coordinator/engine/fake_transport_group.h"
#include "tests/coordinator/engine/recording_sink.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::ByteModel;
using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using tessera::testing::kEos;
using tessera::testing::RecordingSink;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RouterTest : public ::testing::Test {
 protected:
  void Make(EngineOptions options = {}) {
    options.layout.max_sequences_per_step = 4;
    options.limits.lookahead = lookahead_;
    router_ = Router::Create(options, {.patience = patience_});
    group_ = std::make_unique<FakeTransportGroup>(router_.get());
  }
  void Serve(EngineOptions options = {}) {
    Make(options);
    ASSERT_TRUE(group_->Join().ok());
    ASSERT_TRUE(router_->WaitServing(absl::Minutes(1)).ok());
  }

  static PreparedRequest Request(int prompt_tokens, int max_tokens = 4) {
    PreparedRequest request;
    request.prompt_ids.assign(static_cast<size_t>(prompt_tokens), 'p');
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
  // Of the one rank of ByteModel.
  static int64_t BlockBytes() {
    const auto plan = PlanShards(ByteModel(), Layout());
    return plan->ranks(0).kv_bytes_per_token() * plan->kv_block_tokens();
  }
  int FreeBlocks() const { return router_->Status().groups(0).kv_blocks_free(); }
  int AllBlocks() const { return router_->Status().groups(0).kv_blocks_total(); }

  absl::Duration patience_ = absl::Minutes(1);
  bool lookahead_ = false;  // so that a test knows which plan comes next
  std::unique_ptr<Router> router_;
  std::unique_ptr<FakeTransportGroup> group_;
};

TEST_F(RouterTest, StreamsTokenByTokenThenUsage) {
  Serve();
  group_->set_text("pppHello");
  auto sink = Submit(Request(3, 5));
  for (int i = 1; i <= 4; ++i) {
    group_->Answer();
    ASSERT_TRUE(sink->WaitForTokens(i));
    EXPECT_EQ(sink->text(), std::string("Hello").substr(0, static_cast<size_t>(i)));
  }
  group_->Answer();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "Hello");
  EXPECT_THAT(sink->ids(), ElementsAre('H', 'e', 'l', 'l', 'o'));
  const auto chunks = sink->chunks();
  EXPECT_EQ(chunks.front().request_id(), "id");
  EXPECT_EQ(chunks.back().finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(chunks.back().usage().prompt_tokens(), 3);
  EXPECT_EQ(chunks.back().usage().completion_tokens(), 5);
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
    EXPECT_FALSE(chunks[i].has_usage());
  }
}

TEST_F(RouterTest, AStopTokenEndsTheAnswerAndIsNoText) {
  Serve();
  group_->set_text("pHi");  // behind it: <eos>
  auto sink = Submit(Request(1, 100));
  group_->Answer(3);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "Hi");
  EXPECT_THAT(sink->ids(), ElementsAre('H', 'i', kEos));
  EXPECT_EQ(sink->last().finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(RouterTest, IgnoreEosGoesOnPastTheStopToken) {
  Serve();
  group_->set_text("pH");
  PreparedRequest request = Request(1, 3);
  request.sampling.set_ignore_eos(true);
  auto sink = Submit(std::move(request));
  group_->Answer(3);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_THAT(sink->ids(), ElementsAre('H', kEos, kEos));
  EXPECT_EQ(sink->text(), "H");
  EXPECT_EQ(sink->last().finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(RouterTest, AStopStringAcrossTokensEndsTheTextBeforeIt) {
  Serve();
  group_->set_text("pok, then END of it");
  PreparedRequest request = Request(1, 100);
  request.sampling.add_stop("END");
  auto sink = Submit(std::move(request));
  group_->Answer(12);  // "ok, then END"
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "ok, then ");
  EXPECT_EQ(sink->last().finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(sink->last().usage().completion_tokens(), 12);
  EXPECT_TRUE(Eventually([&] { return FreeBlocks() == AllBlocks(); }));
}

TEST_F(RouterTest, ACharacterOfSeveralTokensArrivesWhole) {
  Serve();
  group_->set_text("p\xF0\x9F\x99\x82");  // U+1F642, a byte per token
  auto sink = Submit(Request(1, 4));
  group_->Answer(3);
  ASSERT_TRUE(sink->WaitForTokens(3));
  EXPECT_EQ(sink->text(), "");
  group_->Answer();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "\xF0\x9F\x99\x82");
}

TEST_F(RouterTest, LogprobsComeWithTokenTexts) {
  Serve();
  group_->set_text("pA");
  PreparedRequest request = Request(1, 1);
  request.sampling.set_logprobs(2);
  auto sink = Submit(std::move(request));
  group_->Answer();
  ASSERT_TRUE(sink->WaitForEnd());
  const v1::GenerateResponse last = sink->last();
  ASSERT_EQ(last.logprobs_size(), 1);
  const v1::TokenLogprobs& logprobs = last.logprobs(0);
  EXPECT_EQ(logprobs.chosen().token(), "A");
  EXPECT_FLOAT_EQ(logprobs.chosen().logprob(), -0.5f);
  EXPECT_EQ(logprobs.top_size(), 2);
}

TEST_F(RouterTest, CancelFreesTheBlocksWithinOneStep) {
  Serve();
  int64_t id = 0;
  auto sink = Submit(Request(40, 100), &id);
  group_->Answer();
  ASSERT_TRUE(sink->WaitForTokens(1));
  EXPECT_TRUE(Eventually([&] { return FreeBlocks() < AllBlocks(); }));
  const v1::StepPlan in_flight = group_->TakePlan();
  router_->Cancel(id);
  group_->Reply(group_->ResultOf(in_flight));
  EXPECT_TRUE(Eventually([&] { return FreeBlocks() == AllBlocks(); }));
  EXPECT_EQ(router_->Status().requests_running(), 0);
  EXPECT_EQ(sink->ends(), 0);
  EXPECT_EQ(sink->ids().size(), 1u);
}

TEST_F(RouterTest, ADeadlineEndsARequestThatWaitsForItsStep) {
  Serve();
  PreparedRequest request = Request(20, 100);
  request.deadline = absl::Now() + absl::Milliseconds(1);
  auto sink = Submit(std::move(request));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kDeadlineExceeded);
  // A step may have left before the deadline; its result frees what it still held.
  if (FreeBlocks() != AllBlocks()) group_->Answer();
  EXPECT_TRUE(Eventually([&] { return FreeBlocks() == AllBlocks(); }));
}

TEST_F(RouterTest, WithoutPatienceALostGroupFailsEveryStreamWithoutPathsOrAddresses) {
  patience_ = absl::ZeroDuration();
  Serve();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(Request(3, 100)));  // 4 run, 2 wait
  group_->Lose(absl::UnavailableError("127.0.0.1:41234: /models/x.gguf: connection reset"));
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->ends(), 1);
    EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(sink->status().message().find('/'), absl::string_view::npos);
    EXPECT_EQ(sink->status().message().find("127"), absl::string_view::npos);
  }
  const auto status = router_->Status();
  EXPECT_EQ(status.groups(0).state(), v1::GroupStatus::STATE_FAILED);
  EXPECT_THAT(status.groups(0).error(), HasSubstr("connection reset"));
  EXPECT_EQ(router_->model(), nullptr);
  EXPECT_EQ(router_->Submit(Request(3), std::make_shared<RecordingSink>()).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, TheNextGroupServesAfterALoss) {
  Serve();
  group_->Lose(absl::UnavailableError("gone"));
  FakeTransportGroup next(router_.get());
  next.set_text("pA");
  ASSERT_TRUE(next.Join().ok());
  auto sink = Submit(Request(1, 1));
  next.Answer();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "A");
  EXPECT_EQ(router_->Status().groups(0).error(), "");
}

TEST_F(RouterTest, AGroupThatLeavesMakesRoomAndFailsNobody) {
  Serve();
  auto sink = Submit(Request(1, 1));
  group_->Answer();
  ASSERT_TRUE(sink->WaitForEnd());
  group_->Lose(absl::OkStatus());
  EXPECT_EQ(router_->Status().groups_size(), 0);
  FakeTransportGroup next(router_.get());
  EXPECT_TRUE(next.Join().ok());
  EXPECT_EQ(router_->Status().groups(0).group(), 0) << "the place is free again";
}

TEST_F(RouterTest, WhatAGroupSaysUnderAnotherHandleIsOfNoEffect) {
  Serve();
  auto sink = Submit(Request(1, 1));
  const v1::StepPlan plan = group_->TakePlan();
  const GroupHandle stranger{1000};
  router_->OnStepResult(stranger, group_->ResultOf(plan));
  router_->OnReady(stranger);
  router_->OnRankReport(stranger, v1::RankReport());
  router_->OnLost(stranger, absl::UnavailableError("who?"));
  EXPECT_TRUE(router_->serving());
  EXPECT_EQ(sink->ids().size(), 0u);
  group_->Reply(group_->ResultOf(plan));
  EXPECT_TRUE(sink->WaitForEnd());
}

TEST_F(RouterTest, EachGroupsCountersStandInItsStatusAndInTheTotal) {
  Serve();
  auto sink = Submit(Request(3, 2));
  group_->Answer(2);
  ASSERT_TRUE(sink->WaitForEnd());
  ASSERT_TRUE(Eventually([&] { return router_->Status().scheduler().steps() == 2; }));
  const v1::GetClusterStatusResponse status = router_->Status();
  EXPECT_EQ(status.groups(0).scheduler().SerializeAsString(),
            status.scheduler().SerializeAsString());
  EXPECT_EQ(status.groups(0).scheduler().tokens_computed(), 4);
}

TEST_F(RouterTest, AGroupOfTheWrongSizeHearsBothNumbers) {
  EngineOptions options;
  options.layout.tensor_parallel = 2;
  options.layout.pipeline_parallel = 2;
  Make(options);
  FakeTransportGroup three(router_.get(), ByteModel(), 3);
  const absl::Status status = three.Hello().status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 3 ranks; expected 4"));
  EXPECT_EQ(router_->WaitServing(absl::Minutes(1)).code(), absl::StatusCode::kUnavailable);
  FakeTransportGroup four(router_.get(), ByteModel(), 4);
  EXPECT_TRUE(four.Join().ok());
  EXPECT_TRUE(router_->WaitServing(absl::Minutes(1)).ok());
}

// The second request waits for the first step's answer; then both are in one step.
TEST_F(RouterTest, StagesThatTakeTurnsGetOneStepAtATime) {
  EngineOptions options;
  options.layout.pipeline_parallel = 2;
  options.limits.max_steps_in_flight = 2;
  Make(options);
  FakeTransportGroup two(router_.get(), ByteModel(), 2);
  two.set_time_sliced_stages();
  two.set_text("pppp");
  ASSERT_TRUE(two.Join().ok());
  ASSERT_TRUE(router_->WaitServing(absl::Minutes(1)).ok());
  auto first = Submit(Request(1, 2));
  const v1::StepPlan prompt = two.TakePlan();
  auto second = Submit(Request(1, 1));
  two.Reply(two.ResultOf(prompt));
  const v1::StepPlan both = two.TakePlan();
  EXPECT_EQ(both.chunks_size(), 2);
  two.Reply(two.ResultOf(both));
  EXPECT_TRUE(first->WaitForEnd());
  EXPECT_TRUE(second->WaitForEnd());
}

TEST_F(RouterTest, AGroupThatLiesIsShutDownAndAnHonestOneGoesOn) {
  Serve();
  auto sink = Submit(Request(1, 10));
  v1::StepResult lie = group_->ResultOf(group_->TakePlan());
  lie.mutable_tokens(0)->set_token_id(1 << 20);
  group_->Reply(lie);
  EXPECT_TRUE(Eventually([&] { return group_->shut_down(); }));
  EXPECT_EQ(router_->Status().groups(0).state(), v1::GroupStatus::STATE_FAILED);
  group_->Lose(absl::OkStatus());
  EXPECT_EQ(router_->Status().groups(0).state(), v1::GroupStatus::STATE_FAILED)
      << "the first reason counts";
  FakeTransportGroup honest(router_.get());
  EXPECT_TRUE(honest.Join().ok());
  honest.Answer(10);
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_TRUE(sink->status().ok()) << sink->status();
  EXPECT_EQ(sink->text(), "bcdefghijk");
}

TEST_F(RouterTest, AFullQueueSaysWhenToRetry) {
  EngineOptions options;
  options.limits.max_queue = 2;
  Serve(options);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Submit(Request(3, 1)));  // 4 run, 2 wait
  const absl::Status refused =
      router_->Submit(Request(3), std::make_shared<RecordingSink>()).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(wire::RetryAfter(refused).has_value());
  group_->Run();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd());
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_waiting() == 0; }));
  EXPECT_TRUE(router_->Submit(Request(3, 1), std::make_shared<RecordingSink>()).ok());
}

// Four seats, but blocks for one sequence only: the other seats are no room for waiting requests.
TEST_F(RouterTest, SeatsWithoutMemoryDoNotLengthenTheQueue) {
  EngineOptions options;
  options.limits.max_queue = 2;
  options.layout.kv_bytes_per_rank = 2 * BlockBytes();
  Serve(options);
  std::vector<std::shared_ptr<RecordingSink>> sinks = {Submit(Request(20, 3))};
  const v1::StepPlan first = group_->TakePlan();
  for (int i = 0; i < 2; ++i) sinks.push_back(Submit(Request(20, 3)));
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_running() == 1; }));
  group_->Reply(group_->ResultOf(first));  // now the loop has seen that nobody else fits
  ASSERT_TRUE(sinks[0]->WaitForTokens(1));
  const v1::StepPlan second = group_->TakePlan();
  EXPECT_TRUE(Eventually([&] {
    return absl::IsResourceExhausted(
        router_->Submit(Request(20, 3), std::make_shared<RecordingSink>()).status());
  }));
  group_->Reply(group_->ResultOf(second));
  group_->Run();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd());
}

TEST_F(RouterTest, TemplatesGetTheTokenizersOwnBosAndEos) {
  Make();
  v1::ModelDescription model = ByteModel();
  model.mutable_tokenizer()->set_bos_id(tessera::testing::kImStart);
  model.set_chat_template(
      "{{ bos_token }}{% for message in messages %}{{ message['content'] + eos_token }}"
      "{% endfor %}");
  FakeTransportGroup group(router_.get(), model);
  ASSERT_TRUE(group.Join().ok());
  const auto served = router_->model();
  ASSERT_TRUE(served->chat.ok()) << served->chat.status();
  const auto prompt = (*served->chat)->Render({.messages = {{.role = "user", .content = "Hi"}}});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->text(), "<|im_start|>Hi<eos>");
}

TEST_F(RouterTest, DrainLetsRunningRequestsEndAndRefusesNewOnes) {
  Serve();
  bool serving = false;
  router_->SetServingListener([&](bool now) { serving = now; });
  EXPECT_TRUE(serving);
  auto sink = Submit(Request(1, 2));
  std::thread drain([&] { router_->Drain(absl::Hours(1)); });
  EXPECT_TRUE(Eventually([&] {
    return router_->Submit(Request(300), nullptr).status().code() == absl::StatusCode::kUnavailable;
  }));
  group_->Answer(2);
  drain.join();
  EXPECT_TRUE(sink->WaitForEnd());
  EXPECT_TRUE(sink->status().ok());
  EXPECT_EQ(sink->ids().size(), 2u);
  EXPECT_TRUE(group_->shut_down());
  EXPECT_FALSE(serving);
  group_->Lose(absl::OkStatus());
  EXPECT_EQ(router_->Status().groups_size(), 0);
}

TEST_F(RouterTest, DrainWithoutGraceAbortsAndCutsALongerDrainShort) {
  Serve();
  auto sink = Submit(Request(1, 100));
  std::thread patient([&] { router_->Drain(absl::InfiniteDuration()); });
  router_->Drain(absl::ZeroDuration());
  patient.join();
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, WhatDoesNotFitIsRefusedAtTheDoor) {
  Serve();
  auto sink = std::make_shared<RecordingSink>();
  for (const int tokens : {0, 256, 1000}) {
    const absl::Status status = router_->Submit(Request(tokens), sink).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("prompt"));
  }
  PreparedRequest hot = Request(3);
  hot.sampling.set_temperature(1000);
  EXPECT_THAT(std::string(router_->Submit(std::move(hot), sink).status().message()),
              HasSubstr("sampling.temperature"));
  EXPECT_EQ(router_->Status().requests_waiting(), 0);
}

TEST_F(RouterTest, WithLookaheadTheNextStepIsThereBeforeTheLastOnesResult) {
  lookahead_ = true;
  Serve();
  group_->set_text("pHello");
  auto sink = Submit(Request(1, 5));
  v1::StepPlan before = group_->TakePlan();
  for (int i = 1; i < 5; ++i) {
    const v1::StepPlan ahead = group_->TakePlan();
    EXPECT_EQ(ahead.chunks(0).last_token_from_step(), before.step_id());
    group_->Reply(group_->ResultOf(before));
    ASSERT_TRUE(sink->WaitForTokens(i));
    before = ahead;
  }
  group_->Reply(group_->ResultOf(before));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->text(), "Hello");
}

TEST_F(RouterTest, AThousandCancelsAtOnceLeaveNothing) {
  EngineOptions options;
  options.limits.max_queue = 2000;
  Serve(options);
  std::vector<int64_t> ids(1000);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int64_t& id : ids) sinks.push_back(Submit(Request(20, 100), &id));
  const v1::StepPlan in_flight = group_->TakePlan();
  for (const int64_t id : ids) router_->Cancel(id);
  group_->Reply(group_->ResultOf(in_flight));
  EXPECT_TRUE(Eventually([&] {
    const auto status = router_->Status();
    return status.requests_running() + status.requests_waiting() == 0 &&
           FreeBlocks() == AllBlocks();
  }));
  for (const auto& sink : sinks) EXPECT_EQ(sink->ends(), 0);
}

TEST_F(RouterTest, AbortTellsTheSink) {
  Serve();
  int64_t id = 0;
  auto sink = Submit(Request(1, 100), &id);
  group_->Answer();
  ASSERT_TRUE(sink->WaitForTokens(1));
  router_->Abort(id, absl::CancelledError("enough"));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status(), absl::CancelledError("enough"));
}

TEST_F(RouterTest, ADeadlineThatPassesInTheQueueIsToldAtOnce) {
  Serve();
  std::vector<std::shared_ptr<RecordingSink>> running;
  for (int i = 0; i < 4; ++i) running.push_back(Submit(Request(3, 100)));
  const v1::StepPlan never_answered = group_->TakePlan();
  PreparedRequest request = Request(3, 5);
  request.deadline = absl::Now() + absl::Milliseconds(20);
  auto sink = Submit(std::move(request));
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kDeadlineExceeded);
  for (const auto& other : running) EXPECT_EQ(other->ends(), 0);
}

TEST_F(RouterTest, RunningAndWaitingCountRequestsNotChoices) {
  Serve();
  PreparedRequest several = Request(3, 50);
  several.sampling.set_n(3);
  several.sampling.set_temperature(0);
  std::vector<std::shared_ptr<RecordingSink>> sinks = {Submit(several)};
  group_->Answer(2);
  ASSERT_TRUE(sinks[0]->WaitForTokens(4));
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_running() == 1; }));
  EXPECT_EQ(router_->Status().requests_waiting(), 0);
  EXPECT_GT(router_->Status().scheduler().steps(), 0);
}

TEST_F(RouterTest, DestructionFailsWhatIsLive) {
  Serve();
  auto sink = Submit(Request(1, 100));
  router_ = nullptr;
  EXPECT_EQ(sink->ends(), 1);
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, TheServedNameCanBeGiven) {
  EngineOptions options;
  options.served_model_name = "my-model";
  Serve(options);
  EXPECT_EQ(router_->model()->name, "my-model");
  EXPECT_EQ(router_->Status().groups(0).model(), "my-model");
}

}  // namespace
}  // namespace tessera::coordinator
