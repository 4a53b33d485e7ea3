#include "benchmarks/serving/scale_streams.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/serving/scale_grpc.h"
#include "benchmarks/serving/scale_meters.h"
#include "coordinator/front/front_door.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/router/router.h"
#include "coordinator/simulate/simulated_group.h"

namespace tessera::benchmarks {
namespace {

using coordinator::Caller;
using coordinator::EngineOptions;
using coordinator::FrontDoor;
using coordinator::Metrics;
using coordinator::PreparedRequest;
using coordinator::Router;
using coordinator::TokenSink;

constexpr int kPromptTokens = 32;
constexpr auto kPatience = std::chrono::seconds(120);

template <typename Value>
Value OrDie(absl::StatusOr<Value> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(1);
}

// What all sinks count together.
struct Tally {
  std::atomic<int64_t> tokens{0};
  std::atomic<int64_t> begun{0};  // streams with a token
  std::atomic<int64_t> ended{0};
  std::atomic<int64_t> failed{0};
};

class CountingSink final : public TokenSink {
 public:
  explicit CountingSink(Tally* tally) : tally_(tally) {}

  void Push(v1::GenerateResponse chunk) override { Count(chunk); }
  void Finish(v1::GenerateResponse last) override {
    Count(last);
    if (last.finish_reason() != v1::FINISH_REASON_LENGTH) ++tally_->failed;
    ++tally_->ended;
  }
  void Fail(absl::Status why) override {
    if (tally_->failed++ == 0) std::fprintf(stderr, "%s\n", why.ToString().c_str());
    ++tally_->ended;
  }

 private:
  void Count(const v1::GenerateResponse& chunk) {
    tally_->tokens += chunk.token_ids_size();
    if (!begun_ && chunk.token_ids_size() > 0) ++tally_->begun;
    begun_ |= chunk.token_ids_size() > 0;
  }

  Tally* const tally_;
  bool begun_ = false;
};

EngineOptions OptionsOf(const StreamsOptions& options, Metrics* metrics) {
  EngineOptions engine;
  engine.layout.max_sequences_per_step = options.streams;
  engine.layout.max_tokens_per_step = 4 * options.streams;
  engine.layout.max_model_len = 1024;
  // The simulated model's keys and values take 32 bytes per token.
  const int64_t blocks = int64_t{options.streams} * ((kPromptTokens + options.tokens) / 16 + 2);
  engine.layout.kv_bytes_per_rank = blocks * 16 * 32;
  engine.limits.max_queue = options.streams;
  engine.limits.prefill_stretch = 0;
  engine.metrics = metrics;
  return engine;
}

// Every stream's prompt is its own, so that nothing comes from the prefix cache.
std::string Prompt(int stream) {
  std::string prompt = absl::StrCat(stream, " ");
  prompt.resize(kPromptTokens, 'x');
  return prompt;
}

v1::SamplingOptions Sampling(const StreamsOptions& options) {
  v1::SamplingOptions sampling;
  sampling.set_max_tokens(options.tokens);
  sampling.set_temperature(0);
  sampling.set_ignore_eos(true);
  return sampling;
}

void SubmitAll(const StreamsOptions& options, Router* router, Tally* tally) {
  for (int i = 0; i < options.streams; ++i) {
    PreparedRequest request;
    for (const char c : Prompt(i)) request.prompt_ids.push_back(static_cast<unsigned char>(c));
    request.sampling = Sampling(options);
    request.request_id = absl::StrCat("stream-", i);
    OrDie(router->Submit(std::move(request), std::make_shared<CountingSink>(tally)));
  }
}

void GenerateAll(const StreamsOptions& options, FrontDoor* door, Tally* tally) {
  for (int i = 0; i < options.streams; ++i) {
    v1::GenerateRequest request;
    request.set_text(Prompt(i));
    *request.mutable_sampling() = Sampling(options);
    door->Generate(std::move(request), Caller{}, std::make_shared<CountingSink>(tally));
  }
}

// Looks once a millisecond; a benchmark may.
template <typename Condition>
void WaitUntil(const char* what, Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::fprintf(stderr, "not within two minutes: %s\n", what);
      std::exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

int LiveRequests(const Router& router) {
  const v1::GetClusterStatusResponse status = router.Status();
  return status.requests_running() + status.requests_waiting();
}

}  // namespace

StreamsResult MeasureStreams(const StreamsOptions& options) {
  const std::unique_ptr<Metrics> metrics = Metrics::Create();
  const std::unique_ptr<Router> router = Router::Create(OptionsOf(options, metrics.get()));
  const std::unique_ptr<testing::SimulatedGroup> group = OrDie(testing::SimulatedGroup::Start(
      router.get(), {.description = testing::SimulatedDescription(1024), .thorough = false}));
  const std::unique_ptr<FrontDoor> door =
      FrontDoor::Create({.router = router.get(), .metrics = metrics.get()});
  std::unique_ptr<GrpcScale> grpc;
  if (options.door == Door::kGrpc) grpc = GrpcScale::Start(router.get(), door.get());

  // The first step is held back until everybody has come.
  group->SetHeld(true);
  Tally tally;
  malloc_trim(0);  // what parts measured before have given back is not to hide growth
  const int64_t bytes_before = ResidentBytes();
  if (options.door == Door::kRouter) SubmitAll(options, router.get(), &tally);
  if (options.door == Door::kFrontDoor) GenerateAll(options, door.get(), &tally);
  if (grpc) grpc->StartClients(options.program, options.streams, options.tokens);
  WaitUntil("all streams have come", [&] { return LiveRequests(*router) >= options.streams; });

  StreamsResult result;
  const double wall = WallSeconds();
  const double cpu = ProcessCpuSeconds();
  group->SetHeld(false);
  int64_t bytes = 0;
  WaitUntil("all answers have ended", [&] {
    const int running = router->Status().requests_running();
    result.most_running = std::max<double>(result.most_running, running);
    if (running >= options.streams * 9 / 10) bytes = std::max(bytes, ResidentBytes());
    return LiveRequests(*router) == 0;
  });
  if (grpc) tally.failed += grpc->WaitForClients();
  const double seconds = WallSeconds() - wall;
  const double cpu_seconds = ProcessCpuSeconds() - cpu;
  const double tokens = static_cast<double>(options.streams) * options.tokens;
  result.tokens_per_second = tokens / seconds;
  result.cpu_micros_per_token = cpu_seconds * 1e6 / tokens;
  result.cores = cpu_seconds / seconds;
  result.kib_per_stream =
      static_cast<double>(std::max<int64_t>(0, bytes - bytes_before)) / 1024 / options.streams;
  result.failed = static_cast<double>(tally.failed.load());
  return result;
}

}  // namespace tessera::benchmarks
