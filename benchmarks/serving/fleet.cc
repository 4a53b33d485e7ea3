// A fleet in one process: many simulated groups under one router, tens of thousands of streams of
// two tenants, and a group that dies every second and comes back two seconds later. What the
// coordinator takes for that, whether every stream got its tokens, and whether the tenants got their
// shares.
//
//   tessera_fleet --groups 200 --ranks 16 --streams 20000 --seconds 40
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "benchmarks/serving/scale_meters.h"
#include "benchmarks/serving/scale_report.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/router/router.h"
#include "coordinator/simulate/simulated_group.h"

namespace tessera::benchmarks {
namespace {

using coordinator::EngineOptions;
using coordinator::Metrics;
using coordinator::PreparedRequest;
using coordinator::Router;
using coordinator::TokenSink;
using testing::SimulatedGroup;

struct FleetOptions {
  int groups = 200;
  int ranks = 16;
  int streams = 20'000;
  int seconds = 40;
  int slots = 32;   // of each group
  int tokens = 16;  // of each answer
  int step_millis = 200;
};

struct Tenant {
  const char* name;
  double weight;
};
constexpr std::array<Tenant, 2> kTenants = {Tenant{"one", 1}, Tenant{"three", 3}};
constexpr int kPrompts = 256;  // different ones
constexpr int kPromptTokens = 48;
constexpr absl::Duration kGone = absl::Seconds(2);

template <typename Value>
Value OrDie(absl::StatusOr<Value> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(1);
}

struct Tally {
  std::atomic<bool> counts{false};
  std::array<std::atomic<int64_t>, 2> tokens{};  // by tenant
  std::atomic<int64_t> ended{0};
  std::atomic<int64_t> failed{0};
  std::atomic<int64_t> differ{0};  // ended with other tokens than alone
};

// One of the streams that are always there: as soon as its answer has ended it asks again.
class Stream final : public TokenSink {
 public:
  Stream(int tenant, const std::vector<int32_t>* expected, Tally* tally)
      : tenant_(tenant), expected_(expected), tally_(tally) {}

  void Push(v1::GenerateResponse chunk) override { Take(chunk); }
  void Finish(v1::GenerateResponse last) override {
    Take(last);
    if (position_ != expected_->size() || differs_) ++tally_->differ;
    ++tally_->ended;
    over_ = true;
  }
  void Fail(absl::Status why) override {
    if (tally_->failed++ == 0 && tally_->counts) std::fprintf(stderr, "%s\n", why.ToString().c_str());
    over_ = true;
  }
  bool over() const { return over_; }

 private:
  void Take(const v1::GenerateResponse& chunk) {
    for (const int32_t id : chunk.token_ids()) {
      differs_ |= position_ >= expected_->size() || (*expected_)[position_] != id;
      ++position_;
    }
    if (tally_->counts) tally_->tokens[static_cast<size_t>(tenant_)] += chunk.token_ids_size();
  }

  const int tenant_;
  const std::vector<int32_t>* const expected_;
  Tally* const tally_;
  size_t position_ = 0;
  bool differs_ = false;
  std::atomic<bool> over_{false};
};

class Fleet {
 public:
  explicit Fleet(const FleetOptions& options)
      : options_(options), metrics_(Metrics::Create()), router_(Router::Create(EngineOf())) {
    sampling_.set_max_tokens(options.tokens);
    sampling_.set_temperature(0);
    sampling_.set_ignore_eos(true);
    for (int i = 0; i < kPrompts; ++i) {
      std::vector<int32_t>& prompt = prompts_.emplace_back();
      for (const char c : absl::StrCat(i, " is the number of a prompt")) prompt.push_back(c);
      prompt.resize(kPromptTokens, 'x');
      expected_.push_back(
          testing::SimulatedModel().Continue(prompt, v1::SamplingParams(), options.tokens));
    }
    for (int i = 0; i < options.groups; ++i) groups_.push_back(StartGroup());
  }

  void Run(ScaleReport* report);

 private:
  EngineOptions EngineOf() const {
    EngineOptions engine;
    engine.layout.tensor_parallel = 1;
    engine.layout.pipeline_parallel = options_.ranks;
    engine.layout.max_sequences_per_step = options_.slots;
    engine.layout.max_model_len = 256;
    engine.limits.max_queue = options_.streams;
    engine.limits.prefill_stretch = 0;
    for (const Tenant& tenant : kTenants) engine.limits.tenant_weights[tenant.name] = tenant.weight;
    engine.metrics = metrics_.get();
    return engine;
  }

  std::unique_ptr<SimulatedGroup> StartGroup() {
    testing::SimulatedGroupOptions options;
    options.description = testing::SimulatedDescription(256, std::max(2, options_.ranks));
    options.world_size = options_.ranks;
    options.cost.base = absl::Milliseconds(options_.step_millis);
    options.thorough = false;
    return OrDie(SimulatedGroup::Start(router_.get(), options));
  }

  std::shared_ptr<Stream> Ask(int number) {
    const int tenant = number % 2;
    const size_t prompt = random_() % kPrompts;
    PreparedRequest request;
    request.prompt_ids = prompts_[prompt];
    request.sampling = sampling_;
    request.tenant = kTenants[static_cast<size_t>(tenant)].name;
    auto stream = std::make_shared<Stream>(tenant, &expected_[prompt], &tally_);
    OrDie(router_->Submit(std::move(request), stream));
    return stream;
  }

  void AskAgain() {
    for (size_t i = 0; i < streams_.size(); ++i) {
      if (streams_[i]->over()) streams_[i] = Ask(static_cast<int>(i));
    }
  }

  const FleetOptions options_;
  const std::unique_ptr<Metrics> metrics_;
  const std::unique_ptr<Router> router_;
  v1::SamplingOptions sampling_;
  std::vector<std::vector<int32_t>> prompts_, expected_;
  std::vector<std::unique_ptr<SimulatedGroup>> groups_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::mt19937 random_{20261201};
  Tally tally_;
};

void Fleet::Run(ScaleReport* report) {
  malloc_trim(0);
  const int64_t bytes_before = ResidentBytes();
  for (int i = 0; i < options_.streams; ++i) streams_.push_back(Ask(i));
  const int64_t bytes = ResidentBytes() - bytes_before;
  std::deque<std::pair<absl::Time, size_t>> gone;
  absl::Time next_death = absl::Now() + absl::Seconds(1);
  absl::Time counts_from = absl::Now() + absl::Seconds(options_.seconds / 4);
  const absl::Time end = absl::Now() + absl::Seconds(options_.seconds);
  double cpu = ProcessCpuSeconds(), wall = WallSeconds();
  int deaths = 0;
  while (absl::Now() < end) {
    const absl::Time now = absl::Now();
    if (now >= counts_from) {
      counts_from = absl::InfiniteFuture();
      cpu = ProcessCpuSeconds();
      wall = WallSeconds();
      tally_.counts = true;
    }
    if (now >= next_death) {
      next_death += absl::Seconds(1);
      const size_t victim = random_() % groups_.size();
      if (groups_[victim] != nullptr) {
        groups_[victim]->Lose(absl::UnavailableError("a rank died"));
        groups_[victim] = nullptr;
        gone.emplace_back(now + kGone, victim);
        ++deaths;
      }
    }
    while (!gone.empty() && gone.front().first <= now) {
      groups_[gone.front().second] = StartGroup();
      gone.pop_front();
    }
    AskAgain();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  tally_.counts = false;
  cpu = ProcessCpuSeconds() - cpu;
  wall = WallSeconds() - wall;
  const v1::GetClusterStatusResponse status = router_->Status();
  const int64_t failed = tally_.failed, differ = tally_.differ, ended = tally_.ended;
  router_->Drain(absl::ZeroDuration());  // what ends from here on is cut off
  int64_t longest = 0;
  for (const v1::LostGroup& lost : status.lost_groups()) {
    longest = std::max(longest, lost.resume_micros());
  }
  const double one = static_cast<double>(tally_.tokens[0]);
  const double three = static_cast<double>(tally_.tokens[1]);
  report->Add({"groups that died", static_cast<double>(deaths), ""});
  report->Add({"requests moved", static_cast<double>(status.requests_moved()), ""});
  report->Add({"longest until all of a group had a new token", longest / 1e6, "s"});
  report->Add({"answers", static_cast<double>(ended), ""});
  report->Add({"answers that differ", static_cast<double>(differ), ""});
  report->Add({"streams that failed", static_cast<double>(failed), ""});
  report->Add({"throughput", (one + three) / wall, "tokens/s"});
  report->Add({"CPU per token, groups included", cpu * 1e6 / (one + three), "us"});
  report->Add({"cores busy, groups included", cpu / wall, ""});
  report->Add({"memory per stream",
               static_cast<double>(bytes) / 1024 / options_.streams, "KiB"});
  report->Add({"share of the tenant of weight 3 beside that of weight 1", three / one, ""});
}

int Main(int argc, char** argv) {
  CLI::App app{"What a coordinator takes for a fleet of groups that die and come back"};
  FleetOptions options;
  bool json = false;
  app.add_option("--groups", options.groups)->check(CLI::Range(1, 1'000));
  app.add_option("--ranks", options.ranks, "Of each group")->check(CLI::Range(1, 64));
  app.add_option("--streams", options.streams)->check(CLI::Range(1, 100'000));
  app.add_option("--seconds", options.seconds)->check(CLI::Range(4, 3'600));
  app.add_option("--slots", options.slots, "Of each group")->check(CLI::Range(1, 4'096));
  app.add_option("--tokens", options.tokens, "Of each answer")->check(CLI::Range(1, 128));
  app.add_option("--step-millis", options.step_millis, "What a step takes");
  app.add_flag("--json", json, "JSON instead of a table");
  CLI11_PARSE(app, argc, argv);
  ScaleReport report;
  Fleet(options).Run(&report);
  std::fputs((json ? report.Json() : report.Table()).c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace tessera::benchmarks

int main(int argc, char** argv) { return tessera::benchmarks::Main(argc, argv); }
