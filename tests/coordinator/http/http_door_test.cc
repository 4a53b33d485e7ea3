// The door as clients see it, over real sockets and a front door that answers by script.
#include "coordinator/http/http_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/strings/str_replace.h"
#include "proto/wire/status_builders.h"
#include "tests/coordinator/http/fake_front_door.h"
#include "tests/coordinator/http/loopback_client.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::Chunk;
using testing::LastChunk;
using testing::LoopbackClient;
using testing::LoopbackResponse;

constexpr char kChat[] = R"({"messages":[{"role":"user","content":"hi"}]})";
constexpr char kChatStream[] =
    R"({"messages":[{"role":"user","content":"hi"}],"stream":true,"request_id":"r",)"
    R"("stream_options":{"include_usage":true}})";

class HttpDoorTest : public ::testing::Test {
 protected:
  ~HttpDoorTest() override { door_.reset(); }
  int port() {
    if (door_ == nullptr) {
      HttpDoorOptions options;
      options.port = 0;
      auto door = HttpDoor::Start(options, {.front = &front_, .access = &access_, .metrics = &metrics_});
      EXPECT_TRUE(door.ok()) << door.status();
      door_ = *std::move(door);
    }
    return door_->port();
  }
  // The seconds in "created" differ from run to run.
  static std::string WithoutTime(std::string body) {
    const size_t at = body.find("\"created\":");
    if (at == std::string::npos) return body;
    const size_t end = body.find(',', at);
    return absl::StrReplaceAll(body, {{body.substr(at, end - at), "\"created\":0"}});
  }

  testing::FakeFrontDoor front_;
  testing::FakeAccess access_;
  testing::FakeMetrics metrics_;
  std::unique_ptr<HttpDoor> door_;
};

TEST_F(HttpDoorTest, AWholeChatAnswerByteForByte) {
  front_.script = {"Hel", "lo", ""};
  LoopbackClient client(port());
  const LoopbackResponse response = client.Post("/v1/chat/completions", kChat, "X-Request-Id: r\r\n");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("x-request-id"), "chatcmpl-r");
  EXPECT_EQ(WithoutTime(response.body),
            R"({"id":"chatcmpl-r","object":"chat.completion","created":0,"model":"org/tiny",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},)"
            R"("logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,)"
            R"("completion_tokens":3,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":0}},)"
            R"("system_fingerprint":null})");
}

TEST_F(HttpDoorTest, AStreamedChatByteForByte) {
  front_.script = {"Hel", "l\"o"};
  LoopbackClient client(port());
  const LoopbackResponse response = client.Post("/v1/chat/completions", kChatStream);
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
  const std::string head =
      R"(data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":0,"model":"org/tiny","choices":[)";
  const std::string tail = R"(],"usage":null})" "\n\n";
  EXPECT_EQ(
      WithoutTime(response.body),
      head + R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})" + tail +
          head + R"({"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null})" + tail +
          head + R"({"index":0,"delta":{"content":"l\"o"},"logprobs":null,"finish_reason":null})" + tail +
          head + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})" + tail + head +
          R"(],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})"
          "\n\ndata: [DONE]\n\n");
}

TEST_F(HttpDoorTest, SeveralPromptsAndChoicesAreIndexed) {
  LoopbackClient client(port());
  const std::string body = R"({"prompt":["a","b"],"n":2,"request_id":"q"})";
  client.Send(absl::StrCat("POST /v1/completions HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  const std::vector<testing::FakeFrontDoor::Asked> asked = {front_.WaitFor(0), front_.WaitFor(1)};
  for (int prompt : {1, 0}) {
    auto& sink = *asked[static_cast<size_t>(prompt)].sink;
    v1::GenerateResponse first = LastChunk(absl::StrCat(prompt, "x"), 0, 0, 0);
    first.clear_usage();
    sink.Push(std::move(first));
    sink.Finish(LastChunk(absl::StrCat(prompt, "y"), 3, 2, 1));
  }
  const std::string answer = client.Read().body;
  for (const char* choice : {R"({"index":0,"text":"0x")", R"({"index":1,"text":"0y")",
                             R"({"index":2,"text":"1x")", R"({"index":3,"text":"1y")"}) {
    EXPECT_THAT(answer, HasSubstr(choice));
  }
  EXPECT_THAT(answer, HasSubstr(R"("prompt_tokens":6,"completion_tokens":4,"total_tokens":10)"));
}

TEST_F(HttpDoorTest, EveryRefusalHasItsStatusAndErrorObject) {
  const std::tuple<absl::Status, int, std::string> table[] = {
      {wire::FieldError("sampling.top_k", "is -5"), 400,
       R"({"error":{"message":"top_k is -5","type":"invalid_request_error","param":"top_k","code":null}})"},
      {absl::NotFoundError("no model x"), 404,
       R"({"error":{"message":"no model x","type":"invalid_request_error","param":"model","code":"model_not_found"}})"},
      {wire::OverloadedError("full", absl::Milliseconds(2500)), 429,
       R"({"error":{"message":"full","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}})"},
      {absl::UnavailableError("draining"), 503,
       R"({"error":{"message":"draining","type":"service_unavailable_error","param":null,"code":"unavailable"}})"},
      {absl::DeadlineExceededError("late"), 504,
       R"({"error":{"message":"late","type":"timeout_error","param":null,"code":"deadline_exceeded"}})"},
      {absl::AlreadyExistsError("twice"), 409,
       R"({"error":{"message":"twice","type":"invalid_request_error","param":null,"code":"conflict"}})"},
      {absl::InternalError("bug"), 500,
       R"({"error":{"message":"bug","type":"server_error","param":null,"code":"internal_error"}})"},
  };
  LoopbackClient client(port());
  for (const auto& [status, http, body] : table) {
    front_.refusal = status;
    for (const char* request : {kChat, kChatStream}) {
      const LoopbackResponse response = client.Post("/v1/chat/completions", request);
      EXPECT_EQ(response.status, http);
      EXPECT_EQ(response.body, body);
      if (http == 429) {
        EXPECT_EQ(response.headers.at("retry-after"), "3");
      }
    }
  }
}

TEST_F(HttpDoorTest, AFailureAfterTheHeadIsAnEvent) {
  LoopbackClient client(port());
  client.Send(absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: ",
                           sizeof(kChatStream) - 1, "\r\n\r\n", kChatStream));
  auto asked = front_.WaitFor(0);
  asked.sink->Push(Chunk("a"));
  asked.sink->Fail(absl::UnavailableError("the group died"));
  EXPECT_THAT(client.Read().body,
              HasSubstr("data: {\"error\":{\"message\":\"the group died\",\"type\":\"service_unavailable_error\","
                        "\"param\":null,\"code\":\"unavailable\"}}\n\ndata: [DONE]\n\n"));
}

TEST_F(HttpDoorTest, AClientThatLeavesCancelsItsCalls) {
  size_t index = 0;
  for (const char* request : {kChat, kChatStream}) {
    LoopbackClient client(port());
    client.Send(absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: ",
                             absl::string_view(request).size(), "\r\n\r\n", request));
    auto asked = front_.WaitFor(index++);
    asked.sink->Push(Chunk("a"));
  }
  front_.WaitForCancels(2);
}

TEST_F(HttpDoorTest, AReaderThatDoesNotReadLosesItsStreamWithinABound) {
  LoopbackClient client(port(), /*receive_buffer=*/4096);
  client.Send(absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: ",
                           sizeof(kChatStream) - 1, "\r\n\r\n", kChatStream));
  auto asked = front_.WaitFor(0);
  size_t pushed = 0;
  while (*asked.cancels == 0 && pushed < (size_t{1} << 30)) {
    asked.sink->Push(Chunk(std::string(100'000, 'a')));
    pushed += 100'000;
    absl::SleepFor(absl::Microseconds(100));  // the door's thread may not know of its call yet
  }
  EXPECT_EQ(*asked.cancels, 1);
  EXPECT_LT(pushed, size_t{64} << 20);
}

TEST_F(HttpDoorTest, EchoPutsThePromptBeforeTheText) {
  front_.script = {"!"};
  LoopbackClient client(port());
  EXPECT_THAT(client.Post("/v1/completions", R"({"prompt":"hi","echo":true})").body, HasSubstr(R"("text":"hi!")"));
  EXPECT_THAT(client.Post("/v1/completions", R"({"prompt":[104,105],"echo":true,"max_tokens":0})").body,
              HasSubstr(R"("text":"hi","logprobs":null,"finish_reason":"length")"));
}

TEST_F(HttpDoorTest, LogprobsInBothShapes) {
  const auto answer = [&](const char* path, const std::string& body) {
    LoopbackClient client(port());
    const size_t index = front_.count();
    client.Send(absl::StrCat("POST ", path, " HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
    auto asked = front_.WaitFor(index);
    v1::GenerateResponse last = LastChunk("\xC3\xA9");
    auto* token = last.add_logprobs();
    token->mutable_chosen()->set_token("\xC3\xA9");
    token->mutable_chosen()->set_logprob(-0.5F);
    token->add_top()->set_token("b");
    token->mutable_top(0)->set_logprob(-0.25F);
    asked.sink->Finish(std::move(last));
    return client.Read().body;
  };
  EXPECT_THAT(answer("/v1/completions", R"({"prompt":"a","logprobs":1})"),
              HasSubstr("\"logprobs\":{\"tokens\":[\"\xC3\xA9\"],\"token_logprobs\":[-0.5],"
                        "\"top_logprobs\":[{\"b\":-0.25,\"\xC3\xA9\":-0.5}],\"text_offset\":[0]}"));
  EXPECT_THAT(
      answer("/v1/chat/completions",
             R"({"messages":[{"role":"user","content":"a"}],"logprobs":true,"top_logprobs":1})"),
      HasSubstr("\"logprobs\":{\"content\":[{\"token\":\"\xC3\xA9\",\"logprob\":-0.5,\"bytes\":[195,169],"
                "\"top_logprobs\":[{\"token\":\"b\",\"logprob\":-0.25,\"bytes\":[98]}]}],\"refusal\":null}"));
}

TEST_F(HttpDoorTest, TheOtherPaths) {
  LoopbackClient client(port());
  EXPECT_THAT(client.Get("/v1/models").body,
              MatchesRegex(R"(\{"object":"list","data":\[\{"id":"org/tiny","object":"model".*"max_model_len":2048\}\]\})"));
  EXPECT_EQ(client.Get("/v1/models/org/tiny").status, 200);
  EXPECT_EQ(client.Get("/v1/models/org%2Ftiny").status, 200);
  EXPECT_THAT(client.Get("/v1/models/x").body, HasSubstr("model_not_found"));
  EXPECT_EQ(client.Post("/tokenize", R"({"prompt":"hi","return_token_strs":true})").body,
            R"({"count":2,"max_model_len":2048,"tokens":[104,105],"token_strs":["h","i"]})");
  EXPECT_EQ(client.Post("/tokenize", kChat).body,
            R"({"count":2,"max_model_len":2048,"tokens":[104,105],"token_strs":null})");
  EXPECT_EQ(client.Post("/detokenize", R"({"tokens":[104,105]})").body, R"({"prompt":"hi"})");
  EXPECT_EQ(client.Get("/metrics").body, "tessera_up 1\n");
  EXPECT_THAT(client.Get("/version").body, MatchesRegex(R"(\{"version":"[0-9.]+"\})"));
  EXPECT_EQ(client.Get("/health").status, 200);
  front_.is_serving = false;
  EXPECT_EQ(client.Get("/health").status, 503);
  EXPECT_EQ(client.Get("/nowhere").status, 404);
  const LoopbackResponse wrong = client.Get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  client.Send("OPTIONS /v1/completions HTTP/1.1\r\nOrigin: x\r\n\r\n");
  const LoopbackResponse preflight = client.Read();
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), "*");
  EXPECT_EQ(client.Post("/tokenize", "x", "Content-Encoding: gzip\r\n").status, 415);
}

TEST_F(HttpDoorTest, KeysAreAskedForWhereTheyMatterAndTenantsArrive) {
  access_.key = "k";
  front_.script = {"x"};
  LoopbackClient client(port());
  for (const char* path : {"/health", "/version", "/metrics"}) EXPECT_EQ(client.Get(path).status, 200);
  EXPECT_EQ(client.Get("/v1/models").status, 401);
  EXPECT_EQ(client.Get("/v1/models", "Authorization: Bearer k\r\n").status, 200);
  EXPECT_THAT(client.Post("/v1/chat/completions", kChat).body, HasSubstr("invalid_api_key"));
  LoopbackClient good(port());
  EXPECT_EQ(good.Post("/v1/chat/completions", kChat,
                      "authorization: Bearer k\r\nx-tenant-id: search\r\nX-Request-Timeout: 5\r\n").status, 200);
  EXPECT_EQ(front_.WaitFor(0).caller.tenant, "search");
  EXPECT_LT(front_.WaitFor(0).caller.deadline, absl::InfiniteFuture());
  EXPECT_EQ(good.Get("/v1/models", "authorization: Bearer k\r\nx-tenant-id: other\r\n").status, 403);
}

TEST_F(HttpDoorTest, TwoThousandStreamsAtOnce) {
  testing::AllowManySockets();
  constexpr size_t kStreams = 2000;
  std::vector<std::unique_ptr<LoopbackClient>> clients;
  const std::string request = absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: ");
  for (size_t i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<LoopbackClient>(port()));
    ASSERT_TRUE(clients.back()->connected()) << i;
    const std::string body = R"({"messages":[{"role":"user","content":"hi"}],"stream":true})";
    clients.back()->Send(absl::StrCat(request, body.size(), "\r\n\r\n", body));
  }
  front_.WaitFor(kStreams - 1);
  for (int step = 0; step < 5; ++step) {
    for (size_t i = 0; i < kStreams; ++i) front_.WaitFor(i).sink->Push(Chunk("tok "));
  }
  for (size_t i = 0; i < kStreams; i += 2) clients[i]->Reset();  // every second one leaves
  front_.WaitForCancels(kStreams / 2);
  for (size_t i = 0; i < kStreams; ++i) front_.WaitFor(i).sink->Finish(LastChunk("end"));
  for (size_t i = 1; i < kStreams; i += 2) {
    const LoopbackResponse response = clients[i]->Read();
    ASSERT_TRUE(response.complete);
    size_t tokens = 0;
    for (size_t at = 0; (at = response.body.find("\"tok \"", at)) != std::string::npos; ++at) ++tokens;
    ASSERT_EQ(tokens, 5u);
    ASSERT_THAT(response.body, HasSubstr("data: [DONE]"));
  }
}

}  // namespace
}  // namespace tessera::coordinator
