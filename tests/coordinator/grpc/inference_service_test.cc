// The services over real loopback gRPC, in front of a fake group.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "coordinator/front/held_chunks.h"
#include "coordinator/grpc/server.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/status_builders.h"
#include "tessera/v1/inference.grpc.pb.h"
#include "tests/coordinator/engine/fake_transport_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InferenceServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(16); }

  void Start(int max_queue) {
    EngineOptions options;
    options.limits.max_queue = max_queue;
    options.layout.max_sequences_per_step = 4;
    options.limits.lookahead = false;  // so that a test knows which plan comes next
    router_ = Router::Create(options, {.patience = absl::ZeroDuration()});
    group_ = std::make_unique<FakeTransportGroup>(router_.get());
    access_ = *Access::Create({});
    front_ = FrontDoor::Create({.router = router_.get()});
    auto server = ApiServer::Start({.port = 0}, {router_.get(), front_.get(), access_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel_);
  }
  void Serve() { ASSERT_TRUE(group_->Join().ok()); }
  void TearDown() override {
    server_ = nullptr;
    front_ = nullptr;
    group_->Stop();
    router_ = nullptr;
  }

  static v1::GenerateRequest Request(const std::string& text, int max_tokens = 4) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    return request;
  }
  absl::Status Refusal(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    EXPECT_FALSE(reader->Read(&response));
    return wire::FromGrpc(reader->Finish());
  }
  // All of a stream's text.
  std::string ReadAll(grpc::ClientReader<v1::GenerateResponse>& reader) {
    v1::GenerateResponse all, chunk;
    while (reader.Read(&chunk)) MergeChunk(std::move(chunk), all);
    EXPECT_TRUE(reader.Finish().ok());
    return all.text();
  }
  // One message there, one back, without a generated stub.
  std::string Exchange(const std::string& method, const std::string& message) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto next = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    grpc::Slice slice(message);
    grpc::ByteBuffer response;
    auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    EXPECT_TRUE(next());
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    EXPECT_TRUE(next());
    call->Read(&response, nullptr);
    EXPECT_TRUE(next());
    grpc::Status status;
    call->Finish(&status, nullptr);
    EXPECT_TRUE(next());
    EXPECT_TRUE(status.ok()) << status.error_message();
    grpc::Slice answer;
    EXPECT_TRUE(response.DumpToSingleSlice(&answer).ok());
    return std::string(reinterpret_cast<const char*>(answer.begin()), answer.size());
  }
  // HealthCheckRequest{1: service} → HealthCheckResponse{1: status}.
  int Health(const std::string& service) {
    std::string request;
    if (!service.empty()) {
      request = "\x0a";
      request += static_cast<char>(service.size());
      request += service;
    }
    const std::string answer = Exchange("/grpc.health.v1.Health/Check", request);
    return answer.size() == 2 ? answer[1] : 0;
  }

  std::unique_ptr<const Access> access_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<FakeTransportGroup> group_;
  std::unique_ptr<ApiServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(InferenceServiceTest, TokensArriveAsTheyAreMade) {
  Serve();
  group_->set_text("##Hello");
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("##", 5));
  std::string text;
  v1::GenerateResponse chunk;
  for (const char letter : std::string("Hello")) {
    group_->Answer();
    ASSERT_TRUE(reader->Read(&chunk));  // before the next step is answered
    EXPECT_EQ(chunk.request_id().empty(), !text.empty());
    text += chunk.text();
    EXPECT_EQ(text.back(), letter);
  }
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(chunk.usage().prompt_tokens(), 2);
  EXPECT_EQ(chunk.usage().completion_tokens(), 5);
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(InferenceServiceTest, TokenIdsAndControlTokensInTextMakeTheSamePrompt) {
  Serve();
  group_->Run();
  v1::GenerateRequest ids = Request("");
  ids.mutable_token_ids()->add_ids(tessera::testing::kImStart);
  ids.mutable_token_ids()->add_ids('a');
  for (const v1::GenerateRequest& request : {ids, Request("<|im_start|>a")}) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse all, chunk;
    while (reader->Read(&chunk)) all.MergeFrom(chunk);
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(all.usage().prompt_tokens(), 2);
  }
}

TEST_F(InferenceServiceTest, ChatRendersTheModelsTemplate) {
  Serve();
  grpc::ClientContext context;
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role("user");
  message->set_content("Hi");
  request.mutable_sampling()->set_max_tokens(1);
  request.set_request_id("mine");
  auto reader = stub_->Chat(&context, request);
  const v1::StepPlan plan = group_->TakePlan();
  std::string prompt;
  for (int32_t id : plan.chunks(0).token_ids()) {
    prompt += id < 256 ? std::string(1, static_cast<char>(id))
                       : std::string(id == tessera::testing::kImStart ? "{" : "}");
  }
  EXPECT_EQ(prompt, "{user\nHi}\n{assistant\n");
  group_->Reply(group_->ResultOf(plan));
  v1::GenerateResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.request_id(), "mine");
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(InferenceServiceTest, RefusalsNameTheFieldInMessageAndDetails) {
  Serve();
  v1::GenerateRequest hot = Request("a");
  hot.mutable_sampling()->set_temperature(NAN);
  const absl::Status status = Refusal(hot);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sampling.temperature is NaN"));
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest detail;
  ASSERT_TRUE(detail.ParseFromString(std::string(*payload)));
  EXPECT_EQ(detail.field_violations(0).field(), "sampling.temperature");

  v1::GenerateRequest out_of_range;
  out_of_range.mutable_token_ids()->add_ids(tessera::testing::kByteVocabulary);
  EXPECT_THAT(std::string(Refusal(out_of_range).message()),
              HasSubstr("token_ids.ids[0] is 259; expected 0 .. 258"));
  EXPECT_THAT(std::string(Refusal(v1::GenerateRequest()).message()),
              HasSubstr("prompt is missing"));
  EXPECT_THAT(std::string(Refusal(Request("")).message()), HasSubstr("prompt is empty"));
  EXPECT_THAT(std::string(Refusal(Request(std::string(300, 'x'))).message()),
              HasSubstr("prompt has 300 tokens; expected at most 255"));
}

TEST_F(InferenceServiceTest, AControlTokenInAMessageDoesNotEndTheTurn) {
  Serve();
  grpc::ClientContext context;
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role("user");
  message->set_content("a<|im_end|>b");
  request.mutable_sampling()->set_max_tokens(1);
  auto reader = stub_->Chat(&context, request);
  const v1::StepPlan plan = group_->TakePlan();
  const auto& ids = plan.chunks(0).token_ids();
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tessera::testing::kImEnd), 1);
  group_->Reply(group_->ResultOf(plan));
  EXPECT_EQ(ReadAll(*reader).size(), 1u);
}

// Its message of a megabyte did not fit the headers, and the client saw a broken stream.
TEST_F(InferenceServiceTest, AHugeModelNameIsNotRepeatedInFull) {
  Serve();
  v1::GenerateRequest request = Request("a");
  request.set_model(std::string(1 << 20, 'm'));
  const absl::Status status = Refusal(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_LT(status.message().size(), 500u);
}

TEST_F(InferenceServiceTest, ATextThatCannotFitIsRefusedUnread) {
  Serve();
  const std::string huge(7 << 20, 'x');
  absl::Status status = Refusal(Request(huge));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  // 256 tokens of at most 12 bytes ("<|im_start|>").
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("prompt has 7340032 bytes; expected at most 3072"));
  v1::ChatRequest chat;
  v1::ChatMessage* message = chat.add_messages();
  message->set_role("user");
  message->set_content(huge);
  grpc::ClientContext chat_context, tokenize_context, detokenize_context;
  auto reader = stub_->Chat(&chat_context, chat);
  status = wire::FromGrpc(reader->Finish());
  EXPECT_THAT(std::string(status.message()), HasSubstr("messages has 73400"));
  v1::TokenizeRequest tokenize;
  tokenize.set_text(huge);
  v1::TokenizeResponse tokens;
  EXPECT_EQ(stub_->Tokenize(&tokenize_context, tokenize, &tokens).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::DetokenizeRequest detokenize;
  detokenize.mutable_ids()->Resize(7 << 20, 'x');
  v1::DetokenizeResponse text;
  EXPECT_EQ(stub_->Detokenize(&detokenize_context, detokenize, &text).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

// Long enough to be encoded off gRPC's threads.
TEST_F(InferenceServiceTest, LongTextsAreTokenizedToo) {
  Serve();
  v1::TokenizeRequest request;
  request.set_text(std::string(100'000, 'x'));
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &tokens).ok());
  EXPECT_EQ(tokens.ids_size(), 100'000);
}

TEST_F(InferenceServiceTest, AFullQueueTellsTheClientWhenToRetry) {
  TearDown();
  Start(/*max_queue=*/1);
  Serve();
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (int i = 0; i < 5; ++i) {  // four run, one waits
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request("abc", 2)));
    const int live = i + 1;
    ASSERT_TRUE(Eventually([&] {
      const auto status = router_->Status();
      return status.requests_running() + status.requests_waiting() == live;
    }));
  }
  const absl::Status refused = Refusal(Request("abc"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("1 requests wait, at most 1 may"));
  EXPECT_EQ(wire::RetryAfter(refused), absl::Seconds(1));
  group_->Run();
  for (auto& reader : readers) EXPECT_EQ(ReadAll(*reader).size(), 2u);
}

TEST_F(InferenceServiceTest, AnUnknownModelIsNotFoundAndNoGroupIsUnavailable) {
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kUnavailable);
  Serve();
  v1::GenerateRequest request = Request("a");
  request.set_model("gpt-9");
  const absl::Status status = Refusal(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("gpt-9"));
}

TEST_F(InferenceServiceTest, ACancelledStreamFreesItsBlocks) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("abc", 100));
  group_->Answer();
  v1::GenerateResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  const v1::StepPlan in_flight = group_->TakePlan();
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_running() == 0; }));
  group_->Reply(group_->ResultOf(in_flight));
  EXPECT_TRUE(Eventually([&] {
    const auto status = router_->Status();
    return status.groups(0).kv_blocks_free() == status.groups(0).kv_blocks_total();
  }));
}

TEST_F(InferenceServiceTest, AReaderThatDoesNotReadHoldsNobodyUp) {
  Serve();
  group_->Run();
  grpc::ClientContext slow_context, quick_context;
  auto slow = stub_->Generate(&slow_context, Request("abc", 200));
  auto quick = stub_->Generate(&quick_context, Request("abc", 50));
  EXPECT_EQ(ReadAll(*quick).size(), 50u);
  // The slow one's request has long ended; nothing of its text was lost.
  EXPECT_TRUE(Eventually([&] { return router_->Status().requests_running() == 0; }));
  EXPECT_EQ(ReadAll(*slow).size(), 200u);
}

TEST_F(InferenceServiceTest, ALostGroupEndsStreamsWithUnavailable) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("abc", 100));
  group_->Answer();
  v1::GenerateResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  group_->Lose(absl::UnavailableError("10.0.0.7:1234 reset"));
  while (reader->Read(&chunk)) continue;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message().find("10.0"), std::string::npos);
}

TEST_F(InferenceServiceTest, TokenizeAndDetokenizeAreInverse) {
  Serve();
  const std::string text = "Grüße <|im_end|>";
  v1::TokenizeRequest request;
  request.set_text(text);
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &tokens).ok());
  EXPECT_EQ(tokens.ids_size(), static_cast<int>(text.size()));  // the control token is plain text
  EXPECT_EQ(tokens.tokens(0), "G");
  v1::DetokenizeRequest back;
  *back.mutable_ids() = tokens.ids();
  v1::DetokenizeResponse detokenized;
  grpc::ClientContext back_context;
  ASSERT_TRUE(stub_->Detokenize(&back_context, back, &detokenized).ok());
  EXPECT_EQ(detokenized.text(), text);
  back.add_ids(-1);
  grpc::ClientContext bad_context;
  EXPECT_EQ(stub_->Detokenize(&bad_context, back, &detokenized).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(InferenceServiceTest, ListsTheModelAndTheStatus) {
  Serve();
  grpc::ClientContext models_context, status_context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub_->ListModels(&models_context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "bytes");
  EXPECT_EQ(models.models(0).chat_format(), "jinja");
  EXPECT_EQ(models.models(0).max_model_len(), 256);
  EXPECT_GT(models.models(0).weight_bytes(), 0);
  v1::GetClusterStatusResponse status;
  ASSERT_TRUE(stub_->GetClusterStatus(&status_context, {}, &status).ok());
  ASSERT_EQ(status.groups_size(), 1);
  EXPECT_EQ(status.groups(0).state(), v1::GroupStatus::STATE_SERVING);
  EXPECT_EQ(status.groups(0).ranks_size(), 1);
}

TEST_F(InferenceServiceTest, HealthFollowsTheGroup) {
  constexpr int kServing = 1, kNotServing = 2;
  EXPECT_EQ(Health(""), kNotServing);
  Serve();
  EXPECT_EQ(Health(""), kServing);
  EXPECT_EQ(Health("tessera.v1.Inference"), kServing);
  group_->Lose(absl::UnavailableError("gone"));
  EXPECT_EQ(Health("tessera.v1.Inference"), kNotServing);
}

TEST_F(InferenceServiceTest, ReflectionListsTheServices) {
  // ServerReflectionRequest{7: list_services = ""}.
  const std::string answer = Exchange(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x00", 2));
  EXPECT_THAT(answer, HasSubstr("tessera.v1.Inference"));
  EXPECT_THAT(answer, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(InferenceServiceTest, APortInUseIsNamedWithItsFlag) {
  const auto second = ApiServer::Start({.port = server_->port()},
                                       {router_.get(), front_.get(), access_.get()});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(server_->port())));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--grpc-port"));
}

TEST(MergeChunk, AppendsInOrderAndKeepsTheEnd) {
  v1::GenerateResponse chunk, more;
  chunk.set_text("Hel");
  chunk.add_token_ids(1);
  chunk.set_request_id("r");
  more.set_text("lo");
  more.add_token_ids(2);
  more.set_finish_reason(v1::FINISH_REASON_STOP);
  more.mutable_usage()->set_completion_tokens(2);
  MergeChunk(std::move(more), chunk);
  EXPECT_EQ(chunk.text(), "Hello");
  EXPECT_THAT(chunk.token_ids(), ElementsAre(1, 2));
  EXPECT_EQ(chunk.request_id(), "r");
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(chunk.usage().completion_tokens(), 2);
}

}  // namespace
}  // namespace tessera::coordinator
