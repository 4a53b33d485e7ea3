// What the serving engine added to tessera.v1.Inference, over real loopback gRPC: keys and tenants,
// scores, aborts, several choices, deadlines.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/admit.h"
#include "coordinator/grpc/server.h"
#include "proto/wire/grpc_status.h"
#include "tessera/v1/inference.grpc.pb.h"
#include "tests/coordinator/engine/fake_transport_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using ::testing::HasSubstr;

class InferenceCallsTest : public ::testing::Test {
 protected:
  void SetUp() override { Start({}); }

  void Start(const AccessOptions& access) {
    EngineOptions options;
    options.layout.max_sequences_per_step = 4;
    router_ = Router::Create(options);
    access_ = *Access::Create(access);
    front_ = FrontDoor::Create({.router = router_.get()});
    group_ = std::make_unique<FakeTransportGroup>(router_.get());
    auto server = ApiServer::Start({.port = 0}, {router_.get(), front_.get(), access_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                                       grpc::InsecureChannelCredentials()));
    ASSERT_TRUE(group_->Join().ok());
  }
  void TearDown() override {
    server_ = nullptr;
    front_ = nullptr;
    group_->Stop();
    router_ = nullptr;
  }

  static v1::GenerateRequest Request(const std::string& text, int max_tokens) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    return request;
  }
  grpc::StatusCode ListModels(const std::map<std::string, std::string>& metadata) {
    grpc::ClientContext context;
    for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
    v1::ListModelsResponse response;
    return stub_->ListModels(&context, {}, &response).error_code();
  }

  std::unique_ptr<Router> router_;
  std::unique_ptr<const Access> access_;
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<FakeTransportGroup> group_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(InferenceCallsTest, KeysAreAskedForInTheMetadata) {
  TearDown();
  Start({.api_keys = {"k"}});
  EXPECT_EQ(ListModels({}), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ListModels({{"authorization", "Bearer wrong"}}), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ListModels({{"authorization", "Bearer k"}}), grpc::StatusCode::OK);
  EXPECT_EQ(ListModels({{"authorization", "Bearer k"}, {"x-tenant-id", std::string(200, 't')}}),
            grpc::StatusCode::INVALID_ARGUMENT);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("a", 1));
  v1::GenerateResponse chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(router_->Status().requests_waiting() + router_->Status().requests_running(), 0);
}

TEST_F(InferenceCallsTest, TheSameRequestIdOfTwoTenantsAreTwoRequests) {
  v1::GenerateRequest request = Request("abc", 100);
  request.set_request_id("mine");
  const auto open = [&](grpc::ClientContext& context, const char* tenant) {
    context.AddMetadata("x-tenant-id", tenant);
    return stub_->Generate(&context, request);
  };
  const auto live = [&] {
    return router_->Status().requests_running() + router_->Status().requests_waiting();
  };
  grpc::ClientContext a, b, a_again;
  auto first = open(a, "a");
  ASSERT_TRUE(Eventually([&] { return live() == 1; }));
  auto second = open(b, "b");
  ASSERT_TRUE(Eventually([&] { return live() == 2; }));
  auto third = open(a_again, "a");
  EXPECT_EQ(third->Finish().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  a.TryCancel();
  b.TryCancel();
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(second->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(InferenceCallsTest, AbortEndsTheStream) {
  v1::GenerateRequest request = Request("abc", 100);
  request.set_request_id("mine");
  grpc::ClientContext stream_context, abort_context, again_context;
  auto reader = stub_->Generate(&stream_context, request);
  group_->Answer();
  v1::GenerateResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  v1::AbortRequest abort;
  v1::AbortResponse aborted;
  abort.set_request_id("mine");
  ASSERT_TRUE(stub_->Abort(&abort_context, abort, &aborted).ok());
  while (reader->Read(&chunk)) continue;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(status.error_message(), HasSubstr("aborted"));
  EXPECT_EQ(stub_->Abort(&again_context, abort, &aborted).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(InferenceCallsTest, ChoicesArriveUnderTheirIndex) {
  const auto seeds = ChoiceSeeds(5, 3);
  const char* const texts[] = {"##first", "##the second", "##3"};
  for (size_t i = 0; i < 3; ++i) group_->set_text_of_seed(seeds[i], texts[i]);
  group_->Run();
  v1::GenerateRequest request = Request("##", 50);
  request.mutable_sampling()->set_n(3);
  request.mutable_sampling()->set_seed(5);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  std::map<int, std::string> text;
  std::map<int, int> ends;
  v1::GenerateResponse chunk;
  v1::Usage usage;
  int usages = 0;
  while (reader->Read(&chunk)) {
    EXPECT_EQ(usages, 0) << "the usage is last";
    usage.MergeFrom(chunk.usage());
    text[chunk.index()] += chunk.text();
    ends[chunk.index()] += chunk.finish_reason() == v1::FINISH_REASON_STOP;
    usages += chunk.has_usage();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(usages, 1);
  EXPECT_EQ(usage.completion_tokens(), 6 + 11 + 2);  // with each <eos>
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ("##" + text[i], texts[i]);
    EXPECT_EQ(ends[i], 1);
  }
}

TEST_F(InferenceCallsTest, ScoreAnswersAndGivesUpWhenTheClientLeaves) {
  v1::ScoreRequest request;
  request.set_text("Q");
  request.add_continuations()->set_text("b");
  request.set_top_logprobs(2);
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    v1::ScoreResponse response;
    EXPECT_EQ(stub_->Score(&context, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_TRUE(Eventually([&] {
      return router_->Status().requests_running() + router_->Status().requests_waiting() == 0;
    }));
  }
  group_->Run();
  grpc::ClientContext context;
  v1::ScoreResponse response;
  const grpc::Status status = stub_->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.scores_size(), 1);
  EXPECT_NEAR(response.scores(0).log_likelihood(), -0.098, 1e-6);
  EXPECT_EQ(response.scores(0).tokens(0).top_size(), 2);
  EXPECT_FALSE(response.request_id().empty());
  EXPECT_EQ(response.usage().prompt_tokens(), 2);
}

TEST_F(InferenceCallsTest, ADeadlineInTheQueueIsDeadlineExceeded) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (int i = 0; i < 4; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request("abc", 100)));
  }
  ASSERT_TRUE(Eventually([&] {
    return router_->Status().requests_running() + router_->Status().requests_waiting() == 4;
  }));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  auto late = stub_->Generate(&context, Request("abc", 100));
  EXPECT_EQ(late->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] {
    return router_->Status().requests_running() + router_->Status().requests_waiting() == 4;
  })) << "it has left the server too";
  for (auto& other : contexts) other->TryCancel();
  for (auto& reader : readers) EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace tessera::coordinator
