// The server over real sockets: bounds, deadlines, framing, streams, clients that leave.
#include "coordinator/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/coordinator/http/loopback_client.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::LoopbackClient;
using testing::LoopbackResponse;

// Set once, waited for.
class Signal {
 public:
  void Set() {
    std::lock_guard<std::mutex> lock(mu_);
    set_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [this] { return set_; }));
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool set_ = false;
};

// What the test appends is sent as the client reads.
class Feed final : public HttpBodySource {
 public:
  void Append(std::string bytes, bool end = false) {
    std::lock_guard<std::mutex> lock(mu_);
    bytes_ += bytes;
    ended_ = end;
  }
  bool Fill(std::string& out) override {
    std::lock_guard<std::mutex> lock(mu_);
    const size_t n = std::min<size_t>(bytes_.size() - sent_, 65536);
    out.append(bytes_, sent_, n);
    sent_ += n;
    return ended_ && sent_ == bytes_.size();
  }

 private:
  std::mutex mu_;
  std::string bytes_;
  size_t sent_ = 0;
  bool ended_ = false;
};

HttpServerOptions SmallOptions() {
  HttpServerOptions options;
  options.max_body_bytes = 100'000;
  options.max_header_bytes = 8192;
  return options;
}

void Echo(const HttpRequest& request, const std::shared_ptr<HttpResponder>& responder) {
  responder->Send(HttpResponse::Json(
      200, absl::StrCat(request.method, " ", request.target, " ", request.body)));
}

std::unique_ptr<HttpServer> StartOrDie(const HttpServerOptions& options, HttpHandlers handlers) {
  if (!handlers.make_error) {
    handlers.make_error = [](int status, const std::string& message) {
      return HttpResponse::Json(status, message);
    };
  }
  auto server = HttpServer::Start(options, std::move(handlers));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(HttpServerTest, AnswersAWholeRequestAndKeepsTheConnection) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  LoopbackClient client(server->port());
  for (int i = 0; i < 3; ++i) {
    const LoopbackResponse response = client.Post("/a?b=1", "hello");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "POST /a?b=1 hello");
    EXPECT_EQ(response.headers.at("connection"), "keep-alive");
    EXPECT_EQ(response.headers.count("date"), 1u);
  }
}

TEST(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  LoopbackClient client(server->port());
  std::string all;
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&all, "POST /", i, " HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
  }
  client.Send(all);
  client.CloseSend();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client.Read().body, absl::StrCat("POST /", i, " ab"));
}

TEST(HttpServerTest, BytesMayComeOneByOne) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  LoopbackClient client(server->port());
  for (const char c : std::string(
           "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")) {
    ASSERT_TRUE(client.Send(absl::string_view(&c, 1)));
  }
  EXPECT_EQ(client.Read().body, "POST /x abcde");
}

TEST(HttpServerTest, Http10AndCloseEndTheConnection) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  for (const char* request : {"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"}) {
    LoopbackClient client(server->port());
    client.Send(request);
    const LoopbackResponse response = client.Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.headers.at("connection"), "close");
    EXPECT_TRUE(client.ReadEnd());
  }
}

TEST(HttpServerTest, HeadHasTheLengthAndNoBody) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  LoopbackClient client(server->port());
  client.Send("HEAD /x HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.Read(/*head_only=*/true).headers.at("content-length"), "8");
  EXPECT_EQ(client.Get("/y").body, "GET /y ");
}

TEST(HttpServerTest, ExpectContinueIsAnsweredBeforeTheBody) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  LoopbackClient client(server->port());
  client.Send("POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  client.Send("abc");
  EXPECT_EQ(client.Read().body, "POST /x abc");
  // A body over the bound is refused instead.
  client.Send("POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 300000\r\n\r\n");
  EXPECT_EQ(client.Read().status, 413);
  LoopbackClient other(server->port());
  other.Send("POST /x HTTP/1.1\r\nExpect: a miracle\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_EQ(other.Read().status, 417);
}

struct Refused {
  const char* what;
  std::string bytes;
  int status;
};

TEST(HttpServerTest, RefusesWhatPassesABoundAndTheClientCanReadTheAnswer) {
  HttpServerOptions options = SmallOptions();
  options.linger_timeout = absl::Minutes(5);  // the 50 MB below may take a slow machine a while
  auto server = StartOrDie(options, {.handle = Echo});
  std::string chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 5000; ++i) absl::StrAppend(&chunks, "400\r\n", std::string(1024, 'a'), "\r\n");
  const Refused table[] = {
      {"a large body", absl::StrCat("POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n",
                                    std::string(50'000'000, 'a')), 413},
      {"a large chunked body", chunks, 413},
      {"an endless chunk head", absl::StrCat("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                                             std::string(1'000'000, 'a')), 400},
      {"a large header", absl::StrCat("GET / HTTP/1.1\r\nX: ", std::string(1'000'000, 'a'),
                                      "\r\n\r\n"), 431},
      {"a large target", absl::StrCat("GET /", std::string(1'000'000, 'a'), " HTTP/1.1\r\n\r\n"), 431},
      {"many headers", [] {
         std::string bytes = "GET / HTTP/1.1\r\n";
         for (int i = 0; i < 10'000; ++i) absl::StrAppend(&bytes, "a", i, ": b\r\n");
         return bytes + "\r\n";
       }(), 431},
      {"no HTTP", "hello\r\n\r\n", 400},
      {"binary", std::string("\x16\x03\x01\x02\x00\x01\x00", 7) + "\r\n\r\n", 400},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"a negative length", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
      {"a length of words", "POST / HTTP/1.1\r\nContent-Length: two\r\n\r\n", 400},
      {"two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"length and chunks",
       "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"an absurd length", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"an absurd chunk",
       "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc", 413},
      {"a bad chunk", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", 400},
      {"a header without a colon", "GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400},
  };
  for (const Refused& refused : table) {
    SCOPED_TRACE(refused.what);
    LoopbackClient client(server->port());
    client.Send(refused.bytes);
    const LoopbackResponse response = client.Read();
    EXPECT_EQ(response.status, refused.status) << response.head;
    EXPECT_TRUE(response.complete);
    EXPECT_EQ(response.headers.at("connection"), "close");
  }
  LoopbackClient after(server->port());
  EXPECT_EQ(after.Get("/fine").status, 200);
}

TEST(HttpServerTest, SlowClientsAreCut) {
  HttpServerOptions options = SmallOptions();
  options.header_timeout = absl::Milliseconds(100);
  options.body_timeout = absl::Milliseconds(100);
  auto server = StartOrDie(options, {.handle = Echo});
  LoopbackClient half_head(server->port());
  LoopbackClient half_body(server->port());
  half_head.Send("GET / HTTP/1.1\r\nX-");
  half_body.Send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(half_head.Read().status, 408);
  EXPECT_EQ(half_body.Read().status, 408);
}

TEST(HttpServerTest, IdleClientsAreClosed) {
  HttpServerOptions options = SmallOptions();
  options.idle_timeout = absl::Milliseconds(100);
  auto server = StartOrDie(options, {.handle = Echo});
  LoopbackClient silent(server->port());
  EXPECT_TRUE(silent.ReadEnd());
  // On a machine that stops this thread for long, the server may find it idle before it asked.
  std::optional<LoopbackClient> idle;
  do {
    idle.emplace(server->port());
  } while (idle->Get("/").status != 200);
  EXPECT_TRUE(idle->ReadEnd());
}

TEST(HttpServerTest, ADripFedBodyEndsAfterTenTimeouts) {
  HttpServerOptions options = SmallOptions();
  options.body_timeout = absl::Milliseconds(50);
  auto server = StartOrDie(options, {.handle = Echo});
  LoopbackClient client(server->port());
  client.Send("POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n");
  // Each byte is in time; what ends it is the bound on all of them.
  std::atomic<bool> stop = false;
  std::thread drip([&] {
    while (!stop && client.Send("a")) absl::SleepFor(absl::Milliseconds(5));
  });
  EXPECT_EQ(client.Read().status, 408);
  stop = true;
  drip.join();
}

TEST(HttpServerTest, AStreamIsSentAsItIsMade) {
  Signal started;
  std::shared_ptr<HttpResponder> responder;
  auto feed = std::make_shared<Feed>();
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, std::shared_ptr<HttpResponder> r) {
    responder = std::move(r);
    started.Set();
  }});
  LoopbackClient client(server->port());
  client.Send("GET / HTTP/1.1\r\n\r\n");
  started.Wait();
  responder->Stream({.headers = {{"Content-Type", "text/event-stream"}}}, feed);
  EXPECT_EQ(client.Read(/*head_only=*/true).headers.at("transfer-encoding"), "chunked");
  for (int i = 0; i < 10; ++i) {
    feed->Append(absl::StrCat("event ", i));
    responder->Wake();
    EXPECT_EQ(client.ReadChunk(), absl::StrCat("event ", i));
  }
  feed->Append("last", /*end=*/true);
  responder->Wake();
  EXPECT_EQ(client.ReadChunk(), "last");
  EXPECT_EQ(client.ReadChunk(), "");
}

TEST(HttpServerTest, AStreamOverHttp10EndsWithTheConnection) {
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, const std::shared_ptr<HttpResponder>& r) {
    auto feed = std::make_shared<Feed>();
    feed->Append("one two", /*end=*/true);
    r->Stream({}, feed);
  }});
  LoopbackClient client(server->port());
  client.Send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const LoopbackResponse response = client.Read();
  EXPECT_EQ(response.body, "one two");
  EXPECT_THAT(response.head, Not(HasSubstr("Transfer-Encoding")));
}

TEST(HttpServerTest, AClientThatLeavesIsNoticedBeforeAndDuringItsAnswer) {
  for (const bool stream : {false, true}) {
    for (const bool reset : {false, true}) {
      SCOPED_TRACE(absl::StrCat(stream, reset));
      Signal started;
      Signal gone;
      auto feed = std::make_shared<Feed>();
      auto server = StartOrDie(
          SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, const std::shared_ptr<HttpResponder>& r) {
            r->OnGone([&] { gone.Set(); });
            if (stream) r->Stream({}, feed);
            started.Set();
          }});
      LoopbackClient client(server->port());
      client.Send("GET / HTTP/1.1\r\n\r\n");
      started.Wait();
      if (stream) {
        EXPECT_EQ(client.Read(/*head_only=*/true).status, 200);
      }
      reset ? client.Reset() : client.Close();
      gone.Wait();
    }
  }
}

TEST(HttpServerTest, AnAnswerAfterTheClientLeftGoesNowhereAndGoneComesOnce) {
  Signal started;
  Signal gone;
  std::shared_ptr<HttpResponder> kept;
  std::atomic<int> calls = 0;
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, std::shared_ptr<HttpResponder> r) {
    r->OnGone([&] {
      ++calls;
      gone.Set();
    });
    kept = std::move(r);
    started.Set();
  }});
  LoopbackClient client(server->port());
  client.Send("GET / HTTP/1.1\r\n\r\n");
  started.Wait();
  client.Close();
  gone.Wait();
  kept->Send(HttpResponse::Json(200, "late"));
  bool told_at_once = false;
  kept->OnGone([&] { told_at_once = true; });
  EXPECT_TRUE(told_at_once);
  server.reset();
  kept->Wake();
  kept->Send(HttpResponse::Json(200, "later still"));
  EXPECT_EQ(calls, 1);
}

TEST(HttpServerTest, GoneIsForgottenWhenTheAnswerIsComplete) {
  // Often: the server ends between the answer's last byte and what the server does after it.
  for (int i = 0; i < 100; ++i) {
    std::atomic<int> calls = 0;
    {
      auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, const std::shared_ptr<HttpResponder>& r) {
        r->OnGone([&] { ++calls; });
        r->Send(HttpResponse::Json(200, "x"));
      }});
      LoopbackClient client(server->port());
      EXPECT_EQ(client.Get("/").status, 200);
      EXPECT_EQ(client.Get("/").status, 200);
    }
    ASSERT_EQ(calls, 0) << "round " << i;
  }
}

TEST(HttpServerTest, AClientThatReadsNothingLosesItsStreamAndDisturbsNobody) {
  HttpServerOptions options = SmallOptions();
  options.write_timeout = absl::Milliseconds(200);
  Signal gone;
  auto server = StartOrDie(options, {.handle = [&](const HttpRequest& request, const std::shared_ptr<HttpResponder>& r) {
    if (request.target == "/quick") return Echo(request, r);
    auto feed = std::make_shared<Feed>();
    feed->Append(std::string(64 << 20, 'a'), /*end=*/true);
    r->OnGone([&] { gone.Set(); });
    r->Stream({}, feed);
  }});
  LoopbackClient stuck(server->port(), /*receive_buffer=*/4096);
  stuck.Send("GET /endless HTTP/1.1\r\n\r\n");
  LoopbackClient other(server->port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(other.Get("/quick").status, 200);
  gone.Wait();
}

TEST(HttpServerTest, ASlowReaderThatReadsGetsItAll) {
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, const std::shared_ptr<HttpResponder>& r) {
    auto feed = std::make_shared<Feed>();
    feed->Append(std::string(8 << 20, 'a'), /*end=*/true);
    r->Stream({}, feed);
  }});
  LoopbackClient client(server->port(), /*receive_buffer=*/4096);
  const LoopbackResponse response = client.Get("/");
  EXPECT_EQ(response.body.size(), size_t{8} << 20);
}

TEST(HttpServerTest, BeyondTheConnectionsThatMayBeOpenTheAnswerIs503) {
  HttpServerOptions options = SmallOptions();
  options.max_connections = 2;
  auto server = StartOrDie(options, {.handle = Echo});
  LoopbackClient first(server->port());
  LoopbackClient second(server->port());
  EXPECT_EQ(first.Get("/").status, 200);
  EXPECT_EQ(second.Get("/").status, 200);
  LoopbackClient third(server->port());
  EXPECT_EQ(third.Read().status, 503);
  EXPECT_EQ(first.Get("/").status, 200);
}

TEST(HttpServerTest, BodiesTogetherHaveABound) {
  HttpServerOptions options = SmallOptions();
  options.max_bodies_bytes = 150'000;
  auto server = StartOrDie(options, {.handle = Echo});
  LoopbackClient first(server->port());
  first.Send("POST / HTTP/1.1\r\nContent-Length: 90000\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(first.Read().status, 100);
  first.Send("a");
  LoopbackClient second(server->port());
  second.Send("POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n");
  EXPECT_EQ(second.Read().status, 503);
  first.Send(std::string(89'999, 'a'));
  EXPECT_EQ(first.Read().status, 200);
  EXPECT_EQ(first.Post("/", std::string(90'000, 'a')).status, 200);  // the lease was given back
}

TEST(HttpServerTest, TheHeadAloneMayBeRefused) {
  auto server = StartOrDie(
      SmallOptions(), {.handle = Echo, .check_head = [](const HttpRequest& head) -> std::optional<HttpResponse> {
                         if (head.header("authorization").empty()) return HttpResponse::Json(401, "no");
                         return std::nullopt;
                       }});
  LoopbackClient client(server->port());
  EXPECT_EQ(client.Get("/").status, 401);
  EXPECT_EQ(client.Get("/", "AUTHORIZATION: x\r\n").status, 200);  // the connection is fine
  EXPECT_EQ(client.Post("/", std::string(90'000, 'a')).status, 401);
}

TEST(HttpServerTest, ShutdownWaitsForAnswersUnderWay) {
  Signal started;
  std::shared_ptr<HttpResponder> finishing;
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, std::shared_ptr<HttpResponder> r) {
    finishing = std::move(r);
    started.Set();
  }});
  LoopbackClient soon(server->port());
  LoopbackClient idle(server->port());
  soon.Send("GET /soon HTTP/1.1\r\n\r\n");
  started.Wait();
  std::thread stopping([&] { server->Shutdown(absl::InfiniteDuration()); });
  EXPECT_TRUE(idle.ReadEnd());
  finishing->Send(HttpResponse::Json(200, "done"));
  const LoopbackResponse response = soon.Read();
  EXPECT_EQ(response.body, "done");
  EXPECT_EQ(response.headers.at("connection"), "close");
  soon.Close();
  stopping.join();
}

TEST(HttpServerTest, ShutdownCutsAnswersThatTakeLonger) {
  Signal started;
  Signal gone;
  auto server = StartOrDie(SmallOptions(), {.handle = [&](const HttpRequest& /*request*/, const std::shared_ptr<HttpResponder>& r) {
    r->OnGone([&] { gone.Set(); });
    started.Set();
  }});
  LoopbackClient never(server->port());
  never.Send("GET /never HTTP/1.1\r\n\r\n");
  started.Wait();
  server->Shutdown(absl::Milliseconds(10));
  gone.Wait();
  EXPECT_TRUE(never.ReadEnd());
}

TEST(HttpServerTest, AnAddressThatIsTakenIsNamed) {
  auto server = StartOrDie(SmallOptions(), {.handle = Echo});
  HttpServerOptions options = SmallOptions();
  options.port = server->port();
  auto second = HttpServer::Start(options, {.handle = Echo});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("127.0.0.1:", server->port())));
  options.host = "no such host";
  EXPECT_FALSE(HttpServer::Start(options, {.handle = Echo}).ok());
}

}  // namespace
}  // namespace tessera::coordinator
