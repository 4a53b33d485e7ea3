#include "benchmarks/serving/scale_grpc.h"

#include <grpcpp/grpcpp.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/serving/scale_streams.h"
#include "coordinator/front/access.h"
#include "coordinator/grpc/server.h"
#include "tessera/v1/inference.grpc.pb.h"

namespace tessera::benchmarks {
namespace {

constexpr int kChannels = 16;
constexpr int kFailuresTold = 125;  // an exit status holds no more

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

class GrpcScaleImpl final : public GrpcScale {
 public:
  GrpcScaleImpl(coordinator::Router* router, coordinator::FrontDoor* door) {
    auto access = coordinator::Access::Create({});
    if (!access.ok()) Die(access.status().ToString());
    access_ = *std::move(access);
    auto server = coordinator::ApiServer::Start(
        {.port = 0}, {.router = router, .front = door, .access = access_.get()});
    if (!server.ok()) Die(server.status().ToString());
    server_ = *std::move(server);
  }

  ~GrpcScaleImpl() override {
    if (clients_ > 0) WaitForClients();
  }

  void StartClients(const std::string& program, int streams, int tokens) override {
    const std::string address = absl::StrCat("--clients-of=127.0.0.1:", server_->port());
    const std::string count = absl::StrCat("--streams=", streams);
    const std::string length = absl::StrCat("--tokens=", tokens);
    std::vector<char*> arguments;
    for (const std::string* argument : {&program, &address, &count, &length}) {
      arguments.push_back(const_cast<char*>(argument->c_str()));
    }
    arguments.push_back(nullptr);
    if (posix_spawn(&clients_, program.c_str(), nullptr, nullptr, arguments.data(), environ) != 0) {
      Die(absl::StrCat(program, ": cannot be started for the clients"));
    }
  }

  int WaitForClients() override {
    int status = 0;
    const bool ended = waitpid(clients_, &status, 0) == clients_ && WIFEXITED(status);
    clients_ = 0;
    return ended ? WEXITSTATUS(status) : kFailuresTold;
  }

 private:
  std::unique_ptr<const coordinator::Access> access_;
  std::unique_ptr<coordinator::ApiServer> server_;
  pid_t clients_ = 0;
};

// Counts the streams that are still open.
class OpenStreams {
 public:
  explicit OpenStreams(int count) : open_(count) {}
  void Close() {
    std::lock_guard<std::mutex> lock(mu_);
    if (--open_ == 0) none_.notify_all();
  }
  void WaitForNone() {
    std::unique_lock<std::mutex> lock(mu_);
    none_.wait(lock, [this] { return open_ == 0; });
  }

 private:
  std::mutex mu_;
  std::condition_variable none_;
  int open_;
};

class Client final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  void Start(v1::Inference::Stub* stub, const std::string& prompt, int tokens, OpenStreams* open) {
    open_ = open;
    request_.set_text(prompt);
    request_.mutable_sampling()->set_max_tokens(tokens);
    request_.mutable_sampling()->set_temperature(0);
    request_.mutable_sampling()->set_ignore_eos(true);
    stub->async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    tokens_ += response_.token_ids_size();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    open_->Close();
  }
  int tokens() const { return tokens_; }
  const grpc::Status& status() const { return status_; }

 private:
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  OpenStreams* open_ = nullptr;
  int tokens_ = 0;
};

}  // namespace

std::unique_ptr<GrpcScale> GrpcScale::Start(coordinator::Router* router,
                                            coordinator::FrontDoor* door) {
  return std::make_unique<GrpcScaleImpl>(router, door);
}

int RunGrpcClients(const std::string& address, int streams, int tokens) {
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;
  for (int i = 0; i < kChannels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("tessera.channel", i);  // or they would share one connection
    stubs.push_back(v1::Inference::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
  }
  OpenStreams open(streams);
  std::vector<Client> clients(static_cast<size_t>(streams));
  for (int i = 0; i < streams; ++i) {
    std::string prompt = absl::StrCat(i, " ");
    prompt.resize(32, 'x');
    clients[static_cast<size_t>(i)].Start(stubs[static_cast<size_t>(i % kChannels)].get(), prompt,
                                          tokens, &open);
  }
  open.WaitForNone();
  int failed = 0;
  for (const Client& client : clients) {
    if (client.status().ok() && client.tokens() == tokens) continue;
    if (failed++ == 0) {
      std::fprintf(stderr, "%d tokens: %s\n", client.tokens(),
                   client.status().error_message().c_str());
    }
  }
  return std::min(failed, kFailuresTold);
}

}  // namespace tessera::benchmarks
