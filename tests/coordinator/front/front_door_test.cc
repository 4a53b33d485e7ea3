// The front door over a fake group: what every door of the server offers, without any wire.
#include "coordinator/front/front_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "absl/time/clock.h"
#include "coordinator/engine/admit.h"
#include "proto/wire/status_builders.h"
#include "tests/coordinator/engine/fake_transport_group.h"
#include "tests/coordinator/engine/recording_metrics.h"
#include "tests/coordinator/engine/recording_sink.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using tessera::testing::kImEnd;
using tessera::testing::RecordingMetrics;
using tessera::testing::RecordingSink;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FrontDoorTest : public ::testing::Test {
 protected:
  void SetUp() override { Make(16); }
  void TearDown() override {
    front_ = nullptr;
    group_->Stop();
    router_ = nullptr;
  }

  void Make(int max_queue) {
    EngineOptions options;
    options.limits.max_queue = max_queue;
    options.layout.max_sequences_per_step = 4;
    options.limits.lookahead = false;
    options.metrics = &metrics_;
    router_ = Router::Create(options);
    group_ = std::make_unique<FakeTransportGroup>(router_.get());
    front_ = FrontDoor::Create({.router = router_.get(), .metrics = &metrics_});
  }
  void Serve() { ASSERT_TRUE(group_->Join().ok()); }

  static v1::GenerateRequest Request(const std::string& text, int max_tokens = 4) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    return request;
  }
  static v1::ChatRequest ChatRequest(const std::string& content) {
    v1::ChatRequest request;
    v1::ChatMessage* message = request.add_messages();
    message->set_role("user");
    message->set_content(content);
    request.mutable_sampling()->set_max_tokens(2);
    return request;
  }
  std::shared_ptr<RecordingSink> Generate(v1::GenerateRequest request, const Caller& caller = {}) {
    auto sink = std::make_shared<RecordingSink>();
    call_ = front_->Generate(std::move(request), caller, sink);
    return sink;
  }
  absl::Status Refusal(v1::GenerateRequest request, const Caller& caller = {}) {
    const auto sink = Generate(std::move(request), caller);
    EXPECT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->ends(), 1);
    return sink->status();
  }
  absl::Status ChatRefusal(v1::ChatRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    front_->Chat(std::move(request), {}, sink);
    EXPECT_TRUE(sink->WaitForEnd());
    return sink->status();
  }
  absl::StatusOr<v1::ScoreResponse> Score(v1::ScoreRequest request, const Caller& caller = {}) {
    std::promise<absl::StatusOr<v1::ScoreResponse>> promise;
    front_->Score(std::move(request), caller,
                  [&](absl::StatusOr<v1::ScoreResponse> answer) { promise.set_value(answer); });
    return promise.get_future().get();
  }
  int Live() const {
    const auto status = router_->Status();
    return status.requests_running() + status.requests_waiting();
  }
  bool AllBlocksAreFree() const {
    return Eventually([&] {
      const auto group = router_->Status().groups(0);
      return Live() == 0 && group.kv_blocks_free() == group.kv_blocks_total();
    });
  }

  RecordingMetrics metrics_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<FakeTransportGroup> group_;
  std::unique_ptr<FrontDoor> front_;
  std::shared_ptr<FrontDoor::Call> call_;
};

// ---- models -------------------------------------------------------------------------------------

TEST_F(FrontDoorTest, TheModelMayBeLeftOutOrDefault) {
  EXPECT_FALSE(front_->serving());
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kUnavailable);
  Serve();
  group_->Run();
  EXPECT_TRUE(front_->serving());
  for (const char* name : {"", "default", "bytes"}) {
    v1::GenerateRequest request = Request("a", 1);
    request.set_model(name);
    const auto sink = Generate(std::move(request));
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_TRUE(sink->status().ok()) << name << ": " << sink->status();
  }
  v1::GenerateRequest unknown = Request("a");
  unknown.set_model("gpt-9");
  EXPECT_EQ(Refusal(std::move(unknown)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(metrics_.model(), "bytes");
}

// ---- choices ------------------------------------------------------------------------------------

TEST_F(FrontDoorTest, ThreeChoicesStreamSideBySideAndEndOnTheirOwn) {
  Serve();
  const std::vector<uint64_t> seeds = ChoiceSeeds(7, 3);
  group_->set_text_of_seed(seeds[0], "##one");           // then <eos>
  group_->set_text_of_seed(seeds[1], "##two.stop here");  // a stop string
  group_->set_text_of_seed(seeds[2], "##three goes on and on");
  group_->Run();
  v1::GenerateRequest request = Request("##", 9);
  request.mutable_sampling()->set_n(3);
  request.mutable_sampling()->set_seed(7);
  request.mutable_sampling()->add_stop("stop");
  const auto sink = Generate(std::move(request));
  ASSERT_TRUE(sink->WaitForEnd());
  ASSERT_TRUE(sink->status().ok()) << sink->status();
  EXPECT_EQ(sink->text_of(0), "one");
  EXPECT_EQ(sink->text_of(1), "two.");
  EXPECT_EQ(sink->text_of(2), "three goe");
  std::map<int, v1::FinishReason> reasons;
  const auto chunks = sink->chunks();
  for (const auto& chunk : chunks) {
    EXPECT_EQ(reasons.count(chunk.index()), 0u) << "nothing behind a choice's end";
    if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      reasons[chunk.index()] = chunk.finish_reason();
    }
    EXPECT_EQ(chunk.has_usage(), &chunk == &chunks.back());
    EXPECT_EQ(chunk.request_id().empty(), &chunk != &chunks.front());
  }
  EXPECT_THAT(reasons, ElementsAre(std::pair(0, v1::FINISH_REASON_STOP), std::pair(1, v1::FINISH_REASON_STOP),
                                   std::pair(2, v1::FINISH_REASON_LENGTH)));
  EXPECT_EQ(chunks.back().usage().completion_tokens(), 4 + 8 + 9);
  EXPECT_TRUE(AllBlocksAreFree());
}

TEST_F(FrontDoorTest, PromptLogprobsStandOnTheFirstMessage) {
  Serve();
  group_->Run();
  v1::GenerateRequest request = Request("abc", 2);
  request.mutable_sampling()->set_prompt_logprobs(2);
  const auto sink = Generate(std::move(request));
  ASSERT_TRUE(sink->WaitForEnd());
  const auto first = sink->chunks().front();
  ASSERT_EQ(first.prompt_logprobs_size(), 3);
  EXPECT_FALSE(first.prompt_logprobs(0).has_chosen());
  EXPECT_EQ(first.prompt_logprobs(1).chosen().token(), "b");
  EXPECT_FLOAT_EQ(first.prompt_logprobs(2).chosen().logprob(), -0.099f);
  EXPECT_EQ(first.prompt_logprobs(2).top_size(), 2);
}

// ---- request ids, aborts, cancels ---------------------------------------------------------------

TEST_F(FrontDoorTest, ARequestIdBelongsToOneLiveRequestOfATenant) {
  Serve();
  v1::GenerateRequest request = Request("abc", 100);
  request.set_request_id("mine");
  const auto first = Generate(request, {.tenant = "a"});
  const auto call = call_;
  EXPECT_EQ(Refusal(request, {.tenant = "a"}).code(), absl::StatusCode::kAlreadyExists);
  const auto other = Generate(request, {.tenant = "b"});
  EXPECT_EQ(other->ends(), 0);
  call->Cancel();
  const auto again = Generate(request, {.tenant = "a"});
  EXPECT_EQ(again->ends(), 0) << again->status();
  EXPECT_EQ(first->ends(), 0);
}

TEST_F(FrontDoorTest, AbortEndsTheTenantsRequestWithCancelled) {
  Serve();
  v1::GenerateRequest request = Request("abc", 100);
  request.set_request_id("mine");
  const auto sink = Generate(request, {.tenant = "a"});
  EXPECT_EQ(front_->Abort({.tenant = "b"}, "mine").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(front_->Abort({.tenant = "a"}, "other").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(front_->Abort({.tenant = "a"}, "mine").ok());
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Eventually([&] {
    return absl::IsNotFound(front_->Abort({.tenant = "a"}, "mine"));
  }));
}

TEST_F(FrontDoorTest, ACancelledCallHearsNothingMore) {
  Serve();
  const auto sink = Generate(Request("abc", 100));
  group_->Answer();
  ASSERT_TRUE(sink->WaitForTokens(1));
  const v1::StepPlan in_flight = group_->TakePlan();
  call_->Cancel();
  call_->Cancel();
  group_->Reply(group_->ResultOf(in_flight));
  EXPECT_TRUE(AllBlocksAreFree());
  EXPECT_EQ(sink->ends(), 0);
  EXPECT_EQ(sink->ids().size(), 1u);
  EXPECT_EQ(sink.use_count(), 1) << "nobody holds the door's sink any more";
}

TEST_F(FrontDoorTest, CallsOutliveTheFrontDoor) {
  Serve();
  const auto sink = Generate(Request("abc", 100));
  const v1::StepPlan in_flight = group_->TakePlan();
  front_ = nullptr;
  call_->Cancel();
  group_->Reply(group_->ResultOf(in_flight));
  EXPECT_TRUE(AllBlocksAreFree());
  EXPECT_EQ(sink->ends(), 0);
}

// ---- overload and deadlines ---------------------------------------------------------------------

TEST_F(FrontDoorTest, AFullQueueIsAnAnswerAtOnceAndSaysWhenToRetry) {
  TearDown();
  Make(/*max_queue=*/1);
  Serve();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(Generate(Request("abc", 2)));
  const absl::Status refused = Refusal(Request(std::string(1 << 20, 'x')));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << "before the text is read";
  const auto retry = wire::RetryAfter(refused);
  ASSERT_TRUE(retry.has_value());
  EXPECT_GE(*retry, absl::Seconds(1));
  EXPECT_LE(*retry, absl::Seconds(60));
  group_->Run();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->WaitForEnd());
}

TEST_F(FrontDoorTest, ADeadlineThatHasPassedIsNotServed) {
  Serve();
  Caller late;
  late.deadline = absl::Now() - absl::Seconds(1);
  EXPECT_EQ(Refusal(Request("abc"), late).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Live(), 0);
}

// ---- structured output and tools ----------------------------------------------------------------

TEST_F(FrontDoorTest, AChoiceBecomesAMask) {
  Serve();
  v1::GenerateRequest request = Request("Q:", 10);
  request.mutable_sampling()->mutable_structured()->mutable_choice()->add_values("yes");
  request.mutable_sampling()->mutable_structured()->mutable_choice()->add_values("no");
  group_->set_text("Q:no");  // then <eos>
  const auto sink = Generate(std::move(request));
  const v1::StepPlan plan = group_->TakePlan();
  const std::string& mask = plan.chunks(0).logits_state().allowed_mask();
  ASSERT_FALSE(mask.empty());
  for (int id = 0; id < tessera::testing::kByteVocabulary; ++id) {
    const bool allowed = (static_cast<unsigned char>(mask[static_cast<size_t>(id / 8)]) >> (id % 8)) & 1;
    EXPECT_EQ(allowed, id == 'y' || id == 'n') << id;
  }
  group_->Reply(group_->ResultOf(plan));
  group_->Run();
  ASSERT_TRUE(sink->WaitForEnd());
  ASSERT_TRUE(sink->status().ok()) << sink->status();
  EXPECT_EQ(sink->text(), "no");
  EXPECT_EQ(sink->last().finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_F(FrontDoorTest, AGrammarThatDoesNotParseNamesItself) {
  Serve();
  v1::GenerateRequest request = Request("Q:", 10);
  request.mutable_sampling()->mutable_structured()->set_regex("(");
  const absl::Status status = Refusal(std::move(request));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("structured.regex"));
}

TEST_F(FrontDoorTest, ToolsAreRefusedWhenTheTemplateKnowsNone) {
  Serve();
  v1::ChatRequest request = ChatRequest("Hi");
  request.add_tools_json(R"({"type": "function", "function": {"name": "f"}})");
  const absl::Status status = ChatRefusal(std::move(request));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tools"));
}

TEST_F(FrontDoorTest, TokenizeChatGivesTheIdsThatChatSends) {
  Serve();
  v1::TokenizeResponse tokens;
  front_->TokenizeChat(ChatRequest("a<|im_end|>b"), [&](auto answer) { tokens = *answer; });
  auto sink = std::make_shared<RecordingSink>();
  front_->Chat(ChatRequest("a<|im_end|>b"), {}, sink);
  const v1::StepPlan plan = group_->TakePlan();
  const auto& sent = plan.chunks(0).token_ids();
  EXPECT_EQ(std::vector<int>(sent.begin(), sent.end()),
            std::vector<int>(tokens.ids().begin(), tokens.ids().end()));
  EXPECT_EQ(std::count(sent.begin(), sent.end(), kImEnd), 1);
}

// ---- scores -------------------------------------------------------------------------------------

TEST_F(FrontDoorTest, ScoresSumTheContinuationsLogLikelihoods) {
  Serve();
  group_->Run();
  v1::ScoreRequest request;
  request.set_text("Q: ");
  request.add_continuations()->set_text("bd");   // 98, 100: both even
  request.add_continuations()->set_text("cat");  // 99 and 97 are odd: not the likeliest
  request.add_continuations()->mutable_token_ids()->add_ids('z');
  request.set_top_logprobs(0);
  request.set_request_id("score");
  const auto response = Score(std::move(request));
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->scores_size(), 3);
  EXPECT_NEAR(response->scores(0).log_likelihood(), -0.198, 1e-6);
  EXPECT_TRUE(response->scores(0).is_greedy());
  EXPECT_NEAR(response->scores(1).log_likelihood(), -0.312, 1e-6);
  EXPECT_FALSE(response->scores(1).is_greedy());
  ASSERT_EQ(response->scores(1).tokens_size(), 3);
  EXPECT_EQ(response->scores(1).tokens(2).chosen().token(), "t");
  EXPECT_EQ(response->scores(1).tokens(2).top_size(), 0);
  EXPECT_EQ(response->scores(2).tokens(0).chosen().token_id(), 'z');
  EXPECT_EQ(response->usage().prompt_tokens(), 5 + 6 + 4);
  EXPECT_EQ(response->request_id(), "score");
  EXPECT_TRUE(AllBlocksAreFree());
}

TEST_F(FrontDoorTest, ScoresNameWhatIsWrong) {
  Serve();
  v1::ScoreRequest none;
  none.set_text("Q");
  EXPECT_THAT(std::string(Score(none).status().message()), HasSubstr("continuations has 0"));
  v1::ScoreRequest empty = none;
  empty.add_continuations()->set_text("a");
  empty.add_continuations()->set_text("");
  EXPECT_THAT(std::string(Score(empty).status().message()), HasSubstr("continuations[1] is empty"));
  v1::ScoreRequest long_one = none;
  long_one.add_continuations()->set_text(std::string(300, 'x'));
  EXPECT_THAT(std::string(Score(long_one).status().message()),
              HasSubstr("continuations[0] has 301 tokens"));
  v1::ScoreRequest unknown = none;
  unknown.add_continuations()->mutable_token_ids()->add_ids(100'000);
  EXPECT_EQ(Score(unknown).status().code(), absl::StatusCode::kInvalidArgument);
  v1::ScoreRequest no_prompt;
  no_prompt.add_continuations()->set_text("a");
  EXPECT_THAT(std::string(Score(no_prompt).status().message()), HasSubstr("prompt is missing"));
  EXPECT_EQ(Live(), 0);
}

TEST_F(FrontDoorTest, AScoreThatDoesNotFitTheQueueLeavesNothingInIt) {
  TearDown();
  Make(/*max_queue=*/4);
  Serve();
  v1::ScoreRequest request;
  request.set_text("Q");
  for (int i = 0; i < 20; ++i) request.add_continuations()->set_text("a");
  EXPECT_EQ(Score(std::move(request)).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Eventually([&] { return Live() == 0; }));
}

// ---- metrics ------------------------------------------------------------------------------------

TEST_F(FrontDoorTest, MetricsHearOfTokensAndEnds) {
  Serve();
  group_->Run();
  const auto sink = Generate(Request("abc", 4));
  ASSERT_TRUE(sink->WaitForEnd());
  v1::GenerateRequest hot = Request("abc");
  hot.mutable_sampling()->set_temperature(1000);
  EXPECT_FALSE(Refusal(std::move(hot)).ok());
  ASSERT_TRUE(Eventually([&] { return metrics_.ended().size() == 2; }));
  EXPECT_EQ(metrics_.first_tokens(), 1);
  EXPECT_EQ(metrics_.inter_tokens(), 3);
  EXPECT_GT(metrics_.states(), 0);
  for (const EndedRequest& ended : metrics_.ended()) {
    if (ended.code == absl::StatusCode::kOk) {
      EXPECT_EQ(ended.finish_reason, "length");
      EXPECT_EQ(ended.prompt_tokens, 3);
      EXPECT_EQ(ended.generation_tokens, 4);
      EXPECT_GE(ended.queued, absl::ZeroDuration());
      EXPECT_LE(ended.queued, ended.end_to_end);
    } else {
      EXPECT_EQ(ended.code, absl::StatusCode::kInvalidArgument);
    }
  }
}

}  // namespace
}  // namespace tessera::coordinator
