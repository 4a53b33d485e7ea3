// Many clients at once, over real loopback gRPC: streams that are read, cancelled, abandoned or cut
// off by the end of the group or of the server. Whatever happens, no KV block stays taken.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/grpc/server.h"
#include "tessera/v1/inference.grpc.pb.h"
#include "tests/coordinator/engine/fake_transport_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::FakeTransportGroup;
using tessera::testing::kPatience;

// One client stream that is cancelled after `patience` messages; deletes nothing of itself.
class Caller final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Caller(v1::Inference::Stub* stub, const v1::GenerateRequest& request, int patience)
      : request_(request), patience_(patience) {
    stub->async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
    if (patience_ == 0) context_.TryCancel();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    tokens_ += response_.token_ids_size();
    if (++messages_ == patience_) context_.TryCancel();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    std::lock_guard<std::mutex> lock(mu_);
    code_ = status.error_code();
    done_ = true;
    changed_.notify_all();
  }
  grpc::StatusCode Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [this] { return done_; }));
    return code_;
  }
  int tokens() const { return tokens_; }

 private:
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  const int patience_;
  int messages_ = 0;
  int tokens_ = 0;
  std::mutex mu_;
  std::condition_variable changed_;
  bool done_ = false;
  grpc::StatusCode code_ = grpc::StatusCode::UNKNOWN;
};

class StreamStormTest : public ::testing::Test {
 protected:
  static constexpr int kStreams = 500;
  static constexpr int kForever = 1 << 30;  // messages until a caller loses patience

  void SetUp() override {
    EngineOptions options;
    options.layout.max_sequences_per_step = 32;
    options.limits.max_steps_in_flight = 2;
    router_ = Router::Create(options);
    access_ = *Access::Create({});
    front_ = FrontDoor::Create({.router = router_.get()});
    auto server = ApiServer::Start({.port = 0}, {router_.get(), front_.get(), access_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Inference::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                                       grpc::InsecureChannelCredentials()));
    group_ = std::make_unique<FakeTransportGroup>(router_.get());
    ASSERT_TRUE(group_->Join().ok());
    group_->Run();
  }
  void TearDown() override {
    server_ = nullptr;
    front_ = nullptr;
    group_->Stop();
    router_ = nullptr;
  }

  // Texts of 1 .. 30000 bytes: some are refused, some encoded off gRPC's threads.
  void Call(int count, int longest_patience) {
    for (int i = 0; i < count; ++i) {
      v1::GenerateRequest request;
      const int length = Random(0, 9) == 0 ? Random(1000, 30000) : Random(1, 120);
      request.set_text(std::string(static_cast<size_t>(length), 'x'));
      request.mutable_sampling()->set_max_tokens(Random(1, 60));
      const int patience = longest_patience == kForever ? kForever : Random(0, longest_patience);
      callers_.push_back(std::make_unique<Caller>(stub_.get(), request, patience));
    }
  }
  int Random(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool AllBlocksAreFree() {
    return Eventually([&] {
      const auto status = router_->Status();
      return status.requests_running() + status.requests_waiting() == 0 &&
             status.groups(0).kv_blocks_free() == status.groups(0).kv_blocks_total();
    });
  }

  std::mt19937 random_{7};
  std::unique_ptr<const Access> access_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::unique_ptr<FakeTransportGroup> group_;
  std::vector<std::unique_ptr<Caller>> callers_;
};

TEST_F(StreamStormTest, RandomCancelsLeaveAllBlocksFree) {
  Call(kStreams, /*longest_patience=*/40);
  int finished = 0, cancelled = 0;
  for (const auto& caller : callers_) {
    const grpc::StatusCode code = caller->Wait();
    finished += code == grpc::StatusCode::OK;
    cancelled += code == grpc::StatusCode::CANCELLED;
  }
  EXPECT_GT(finished, 0);
  EXPECT_GT(cancelled, 0);
  EXPECT_TRUE(AllBlocksAreFree());
}

// What comes while no group serves is refused; what was admitted ends well.
TEST_F(StreamStormTest, AGroupLostAmongThemCostsNoStreamThatWasAdmitted) {
  Call(kStreams, kForever);
  ASSERT_TRUE(Eventually([&] { return router_->Status().requests_running() > 0; }));
  group_->Lose(absl::UnavailableError("gone"));
  const int moved = static_cast<int>(router_->Status().requests_moved());
  FakeTransportGroup next(router_.get());
  ASSERT_TRUE(next.Join().ok());
  next.Run();
  int answered = 0;
  for (const auto& caller : callers_) {
    const grpc::StatusCode code = caller->Wait();
    answered += code == grpc::StatusCode::OK;
    EXPECT_TRUE(code == grpc::StatusCode::OK || code == grpc::StatusCode::UNAVAILABLE ||
                code == grpc::StatusCode::INVALID_ARGUMENT)
        << code;
  }
  EXPECT_GT(moved, 0);
  EXPECT_GE(answered, moved);
  EXPECT_TRUE(AllBlocksAreFree());
  next.Stop();
}

TEST_F(StreamStormTest, AServerThatStopsUnderThemHangsNobody) {
  Call(kStreams, /*longest_patience=*/200);
  server_->Shutdown(absl::ZeroDuration());
  for (const auto& caller : callers_) caller->Wait();
  EXPECT_TRUE(AllBlocksAreFree());
  server_ = nullptr;
}

TEST_F(StreamStormTest, DrainingUnderThemEndsEveryStream) {
  Call(kStreams, /*longest_patience=*/200);
  router_->Drain(absl::ZeroDuration());
  for (const auto& caller : callers_) caller->Wait();
}

}  // namespace
}  // namespace tessera::coordinator
