#include "coordinator/simulate/simulated_group.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "proto/wire/protocol.h"
#include "coordinator/simulate/simulated_worker.h"

namespace tessera::testing {
namespace {

struct SentPlan {
  v1::StepPlan plan;
  absl::Time sent;
};

// What the coordinator holds of the group: outlives it for as long as the engine wishes.
class Wire final : public coordinator::GroupTransport {
 public:
  absl::Status SendPlan(const v1::StepPlan& plan) override {
    SentPlan sent{plan, absl::Now()};
    MutexLock lock(&mu_);
    if (closed_) return absl::UnavailableError("the group is lost");
    plans_.push_back(std::move(sent));
    changed_.Signal();
    return absl::OkStatus();
  }

  void Shutdown(const std::string& /*reason*/) override { Close(absl::OkStatus()); }

  // The first reason counts.
  void Close(absl::Status why) {
    MutexLock lock(&mu_);
    if (!closed_) closed_ = std::move(why);
    changed_.Signal();
  }

  void SetHeld(bool held) {
    MutexLock lock(&mu_);
    held_ = held;
    changed_.Signal();
  }

  // All plans that have come; waits for one, for `until` or for the end. Nothing while held.
  std::deque<SentPlan> Take(absl::Time until) {
    std::deque<SentPlan> taken;
    MutexLock lock(&mu_);
    while (!closed_ && (held_ || plans_.empty()) && !changed_.WaitWithDeadline(&mu_, until)) {
    }
    if (!held_) taken.swap(plans_);
    return taken;
  }

  std::optional<absl::Status> closed() const {
    MutexLock lock(&mu_);
    return closed_;
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<SentPlan> plans_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
  bool held_ ABSL_GUARDED_BY(mu_) = false;
};

class SimulatedGroupImpl final : public SimulatedGroup {
 public:
  SimulatedGroupImpl(coordinator::GroupObserver* observer, coordinator::GroupHandle handle,
                     std::shared_ptr<Wire> wire, const SimulatedGroupOptions& options,
                     const v1::ShardPlan& plan)
      : observer_(observer),
        handle_(handle),
        wire_(std::move(wire)),
        worker_({.num_blocks = plan.num_kv_blocks(),
                 .block_tokens = plan.kv_block_tokens(),
                 .model = options.model,
                 .thorough = options.thorough}),
        pipeline_(CostOf(options.cost, plan)),
        costs_nothing_(options.cost.free()) {
    thread_ = std::thread([this] { Run(); });
  }

  ~SimulatedGroupImpl() override { Lose(absl::UnavailableError("the simulated group has ended")); }

  void Lose(absl::Status why) override {
    wire_->Close(std::move(why));
    if (thread_.joinable()) thread_.join();
  }

  void SetHeld(bool held) override { wire_->SetHeld(held); }
  int64_t steps() const override { return steps_.load(); }

 private:
  struct Due {
    absl::Time arrives;
    v1::StepResult result;
  };

  Due Timed(const SentPlan& sent, v1::StepResult result) {
    if (costs_nothing_) return {sent.sent, std::move(result)};
    const SimulatedPipeline::Times times = pipeline_.Accept(sent.plan, sent.sent);
    result.set_compute_micros(absl::ToInt64Microseconds(times.ended - times.began));
    result.set_stall_micros(absl::ToInt64Microseconds(times.stall));
    return {times.arrived, std::move(result)};
  }

  static SimulatedCost CostOf(SimulatedCost cost, const v1::ShardPlan& plan) {
    cost.stages = plan.pipeline_parallel_size();
    return cost;
  }

  void Run() {
    std::deque<Due> due;  // steps end in the order in which they were sent
    while (!wire_->closed()) {
      for (const SentPlan& sent :
           wire_->Take(due.empty() ? absl::InfiniteFuture() : due.front().arrives)) {
        absl::StatusOr<v1::StepResult> result = worker_.Execute(sent.plan);
        if (!result.ok()) {
          wire_->Close(result.status());
          break;
        }
        due.push_back(Timed(sent, *std::move(result)));
      }
      while (!due.empty() && due.front().arrives <= absl::Now() && !wire_->closed()) {
        ++steps_;
        observer_->OnStepResult(handle_, std::move(due.front().result));
        due.pop_front();
      }
    }
    observer_->OnLost(handle_, *wire_->closed());
  }

  coordinator::GroupObserver* const observer_;
  const coordinator::GroupHandle handle_;
  const std::shared_ptr<Wire> wire_;
  SimulatedWorker worker_;      // the thread's
  SimulatedPipeline pipeline_;  // likewise
  const bool costs_nothing_;
  std::atomic<int64_t> steps_{0};
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SimulatedGroup>> SimulatedGroup::Start(
    coordinator::GroupObserver* observer, const SimulatedGroupOptions& options) {
  v1::Hello hello;
  hello.set_group_id("simulated");
  hello.set_world_size(options.world_size);
  hello.set_protocol_version(wire::kProtocolVersion);
  *hello.mutable_model() = options.description;
  auto wire = std::make_shared<Wire>();
  TESSERA_ASSIGN_OR_RETURN(const coordinator::JoinedGroup joined, observer->OnJoin(hello, wire));
  auto group = std::make_unique<SimulatedGroupImpl>(observer, joined.handle, std::move(wire),
                                                    options, joined.plan);
  observer->OnReady(joined.handle);
  return group;
}

}  // namespace tessera::testing
