#include "coordinator/engine/engine.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/clock.h"
#include "coordinator/engine/drain_rate.h"
#include "coordinator/engine/step_driver.h"
#include "coordinator/group/failure_detector.h"
#include "coordinator/group/group_state.h"
#include "coordinator/schedule/queue_full.h"
#include "proto/base/mutex.h"
#include "proto/base/startup_times.h"

namespace tessera::coordinator {
namespace {

using Command = absl::AnyInvocable<void()>;

v1::SchedulerCounters CountersOf(const SchedulerStats& stats) {
  v1::SchedulerCounters counters;
  counters.set_preemptions(stats.preemptions);
  counters.set_steps(stats.steps);
  counters.set_tokens_computed(stats.tokens_computed);
  counters.set_prefix_cache_queries(stats.prefix_queries);
  counters.set_prefix_cache_hits(stats.prefix_hits);
  counters.set_compute_micros(stats.compute_micros);
  counters.set_stall_micros(stats.stall_micros);
  return counters;
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(const EngineOptions& options, const EngineGroup& group, EngineOwner* owner)
      : options_(options),
        group_(group),
        owner_(owner),
        detector_({.timeout = options.failure_timeout}),
        driver_(options_, &detector_) {
    state_.SetPlan(group_.model->name, group_.model->plan);
    thread_ = std::thread([this] { Run(); });
  }

  ~EngineImpl() override {
    {
      MutexLock lock(&mu_);
      stop_ = true;
      work_.Signal();
    }
    thread_.join();
  }

  int place() const override { return group_.place; }
  Phase phase() const override {
    MutexLock lock(&mu_);
    return phase_;
  }
  const std::shared_ptr<const ServedModel>& model() const override { return group_.model; }
  const std::shared_ptr<GroupTransport>& transport() const override { return group_.transport; }
  v1::GroupStatus Status() const override;
  int running() const override {
    MutexLock lock(&mu_);
    return stats_.running;
  }
  int waiting() const override {
    MutexLock lock(&mu_);
    return std::max(0, live_count_ - stats_.running);
  }

  EngineLoad load() const override;

  absl::Status CheckRoom() const override;
  void Add(AdmittedRequest request) override;
  bool Cancel(int64_t id) override;
  bool Abort(int64_t id, absl::Status why) override;
  void AbortAll(absl::Status why) override;

  void OnRankReport(const v1::RankReport& report) override;
  void OnReady() override;
  void OnStepResult(v1::StepResult result) override;
  void OnLost(const absl::Status& why) override;

 private:
  bool lost() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return phase_ == Phase::kLeft || phase_ == Phase::kFailed;
  }
  // Below zero: running slots are free.
  int WaitingForASlot() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndGroup(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Post(Command command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // The engine's thread only.
  void Run();
  bool TakeCommands(std::deque<Command>& commands);
  void CommitResult(const v1::StepResult& result);
  void CheckAlive(absl::Time now);
  bool GiveUpGroup(const absl::Status& why);
  void Publish();
  absl::Time NextCheck() const;

  const EngineOptions options_;
  const EngineGroup group_;
  EngineOwner* const owner_;
  GroupState state_;  // guards itself

  mutable Mutex mu_;
  CondVar work_;  // the engine's thread waits here
  std::deque<Command> commands_ ABSL_GUARDED_BY(mu_);
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kLoading;
  SchedulerStats stats_ ABSL_GUARDED_BY(mu_);  // after the thread's last turn
  int live_count_ ABSL_GUARDED_BY(mu_) = 0;    // queued, waiting and running
  int64_t queued_tokens_ ABSL_GUARDED_BY(mu_) = 0;  // of prompts that the thread has not seen
  DrainRate drain_rate_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;

  FailureDetector detector_;  // the engine's thread only, as is driver_
  StepDriver driver_;
  std::thread thread_;
};

// ---- requests: any thread -----------------------------------------------------------------------

absl::Status EngineImpl::CheckRoom() const {
  MutexLock lock(&mu_);
  const int waiting = WaitingForASlot();
  if (waiting < options_.limits.max_queue) return absl::OkStatus();
  return QueueFullError(waiting, options_.limits.max_queue, drain_rate_.TimeFor(waiting));
}

// Running requests do not count, nor those for whom the next step has a slot.
int EngineImpl::WaitingForASlot() const {
  const int slots =
      stats_.out_of_blocks ? stats_.running : group_.model->plan.max_sequences_per_step();
  return live_count_ - slots;
}

EngineLoad EngineImpl::load() const {
  MutexLock lock(&mu_);
  return {.serving = phase_ == Phase::kServing,
          .has_room = WaitingForASlot() < options_.limits.max_queue,
          .live = live_count_,
          .slots = group_.model->plan.max_sequences_per_step(),
          .waiting_tokens = stats_.waiting_tokens + queued_tokens_,
          .step_micros = stats_.step_micros,
          .decode_micros = stats_.decode_micros,
          .prompt_token_micros = stats_.prompt_token_micros};
}

void EngineImpl::Add(AdmittedRequest request) {
  MutexLock lock(&mu_);
  ++live_count_;
  queued_tokens_ += static_cast<int64_t>(request.scheduled.prompt_ids.size());
  Post([this, moved = std::move(request)]() mutable {
    driver_.Add(std::move(moved), absl::Now());
  });
}

bool EngineImpl::Cancel(int64_t id) {
  MutexLock lock(&mu_);
  if (lost()) return false;
  Post([this, id] { driver_.Cancel(id, absl::Now()); });
  return true;
}

bool EngineImpl::Abort(int64_t id, absl::Status why) {
  MutexLock lock(&mu_);
  if (lost()) return false;
  Post([this, id, why = std::move(why)] { driver_.Fail(id, why, absl::Now()); });
  return true;
}

void EngineImpl::AbortAll(absl::Status why) {
  MutexLock lock(&mu_);
  Post([this, why = std::move(why)] { driver_.FailAll(why); });
}

v1::GroupStatus EngineImpl::Status() const {
  v1::GroupStatus status = state_.Snapshot();
  status.set_group(group_.place);
  MutexLock lock(&mu_);
  *status.mutable_scheduler() = CountersOf(stats_);
  if (phase_ == Phase::kServing) status.set_kv_blocks_free(stats_.blocks_free);
  return status;
}

// ---- the group: transport threads ---------------------------------------------------------------

// A report for a rank outside the plan is a stray; it changes nothing.
void EngineImpl::OnRankReport(const v1::RankReport& report) {
  if (!state_.AddReport(report).ok()) return;
  if (report.phase() == v1::RankReport::PHASE_SERVING) {
    MutexLock lock(&mu_);
    Post([this, rank = report.world_rank(), host = report.host(), now = absl::Now()] {
      detector_.Heard(rank, host, now);
    });
  }
  if (options_.metrics != nullptr && report.has_step_times()) {
    options_.metrics->RankTimes(group_.place, report.world_rank(), report.step_times());
  }
}

void EngineImpl::OnReady() {
  NoteStartup("coordinator: every rank has loaded");
  MutexLock lock(&mu_);
  if (phase_ != Phase::kLoading) return;
  Post([this] { driver_.Start(*group_.model, group_.transport); });
  stats_.blocks_free = group_.model->plan.num_kv_blocks();
  if (options_.metrics != nullptr) options_.metrics->SetModel(group_.model->name);
  state_.SetReady();
  phase_ = Phase::kServing;
}

void EngineImpl::OnStepResult(v1::StepResult result) {
  MutexLock lock(&mu_);
  Post([this, moved = std::move(result)] { CommitResult(moved); });
}

// Failed already: a group that was shut down for a wrong result. The first reason counts.
void EngineImpl::OnLost(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (phase_ != Phase::kFailed) EndGroup(why);
}

// Nobody is added from here on; those who were stand in the queue before this command.
void EngineImpl::EndGroup(const absl::Status& why) {
  state_.SetLost(why);
  // Nobody computes so that a rank falls silent: it was stopped or cut off.
  const bool may_be_theirs = !why.ok() && !FailureDetector::IsSilence(why);
  Post([this, may_be_theirs] { driver_.Stop(may_be_theirs); });
  phase_ = why.ok() ? Phase::kLeft : Phase::kFailed;
}

void EngineImpl::Post(Command command) {
  commands_.push_back(std::move(command));
  work_.Signal();
}

// ---- the engine's thread ------------------------------------------------------------------------

void EngineImpl::Run() {
  std::deque<Command> commands;
  while (TakeCommands(commands)) {
    for (Command& command : commands) command();
    commands.clear();
    CheckAlive(absl::Now());
    driver_.SendPlans(absl::Now());
    Publish();
  }
  for (Command& command : commands) command();
  driver_.FailAll(absl::UnavailableError("the server has stopped"));
  Publish();
}

absl::Time EngineImpl::NextCheck() const {
  return driver_.has_group() ? detector_.next_check() : absl::InfiniteFuture();
}

// Waits for commands or for the next deadline. False when the engine is to end.
bool EngineImpl::TakeCommands(std::deque<Command>& commands) {
  const absl::Time deadline = std::min(driver_.next_deadline(), NextCheck());
  MutexLock lock(&mu_);
  while (!stop_ && commands_.empty() && !work_.WaitWithDeadline(&mu_, deadline)) {
  }
  commands.swap(commands_);
  queued_tokens_ = 0;
  return !stop_;
}

void EngineImpl::CommitResult(const v1::StepResult& result) {
  const absl::Status committed = driver_.Commit(result, absl::Now());
  if (committed.ok()) return;
  GiveUpGroup(committed);
  group_.transport->Shutdown(std::string(committed.message()));
}

// False when that has happened already.
bool EngineImpl::GiveUpGroup(const absl::Status& why) {
  {
    MutexLock lock(&mu_);
    if (phase_ != Phase::kServing) return false;
    EndGroup(why);
  }
  owner_->OnGroupFailed(group_.handle, why);
  return true;
}

void EngineImpl::CheckAlive(absl::Time now) {
  if (!driver_.has_group()) return;
  const absl::Status alive = detector_.Check(now);
  if (alive.ok() || !GiveUpGroup(alive)) return;
  group_.transport->Abandon(std::string(alive.message()));
}

void EngineImpl::Publish() {
  const absl::Time now = absl::Now();
  const SchedulerStats stats = driver_.stats();
  const std::vector<int64_t> ended = driver_.TakeEnded();
  std::vector<AdmittedRequest> unfinished = driver_.TakeUnfinished();
  const bool has_group = driver_.has_group();
  if (has_group && options_.metrics != nullptr) {
    options_.metrics->SchedulerState(group_.place, stats);
  }
  {
    const int gone = static_cast<int>(ended.size() + unfinished.size());
    MutexLock lock(&mu_);
    // Before the first turn after OnReady the driver has no scheduler yet, and no blocks to tell of.
    if (has_group) stats_ = stats;
    if (!has_group && phase_ != Phase::kServing) stats_ = SchedulerStats{};
    drain_rate_.Observe(now, gone, /*busy=*/phase_ == Phase::kServing && WaitingForASlot() > 0);
    live_count_ -= gone;
  }
  if (!ended.empty()) owner_->OnEnded(ended);
  if (!unfinished.empty()) owner_->OnUnfinished(std::move(unfinished));
}

}  // namespace

std::unique_ptr<Engine> Engine::Create(const EngineOptions& options, const EngineGroup& group,
                                       EngineOwner* owner) {
  return std::make_unique<EngineImpl>(options, group, owner);
}

}  // namespace tessera::coordinator
