#include "coordinator/engine/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/engine/admit.h"
#include "coordinator/engine/drain_rate.h"
#include "coordinator/engine/step_driver.h"
#include "coordinator/group/group_state.h"
#include "proto/wire/status_builders.h"
#include "proto/base/startup_times.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Command = absl::AnyInvocable<void()>;

absl::Status DrainingError() {
  return absl::UnavailableError("the server is shutting down and takes no new requests");
}

// As wait_until, which overflows for times that never come.
void WaitUntil(std::condition_variable& condition, std::unique_lock<std::mutex>& lock,
               absl::Time deadline) {
  if (deadline - absl::Now() > absl::Hours(24)) {
    condition.wait_for(lock, std::chrono::hours(24));
  } else {
    condition.wait_until(lock, absl::ToChronoTime(deadline));
  }
}

std::mt19937_64 SeededGenerator() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device()};
  return std::mt19937_64(seed);
}

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

class EngineLoopImpl final : public EngineLoop {
 public:
  explicit EngineLoopImpl(const EngineLoopOptions& options)
      : options_(options),
        seeds_(SeededGenerator()),
        driver_(options_) {
    thread_ = std::thread([this] { Run(); });
  }

  ~EngineLoopImpl() override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
    }
    work_.notify_one();
    thread_.join();
  }

  absl::Status CheckAdmission() const override;
  absl::StatusOr<int64_t> Submit(GenerationRequest request,
                                 std::shared_ptr<TokenSink> sink) override;
  void Cancel(int64_t id) override;
  void Abort(int64_t id, absl::Status why) override;
  std::shared_ptr<const ServedModel> model() const override;
  v1::GetClusterStatusResponse Status() const override;
  bool serving() const override;
  void Drain(absl::Duration grace) override;
  absl::Status WaitServing(absl::Duration timeout) override;
  void SetServingListener(std::function<void(bool serving)> listener) override;

  absl::StatusOr<v1::ShardPlan> OnJoin(const v1::Hello& hello,
                                       std::shared_ptr<GroupTransport> transport) override;
  void OnRankReport(const v1::RankReport& report) override;
  void OnReady() override;
  void OnStepResult(v1::StepResult result) override;
  void OnLost(absl::Status why) override;

 private:
  enum class Phase { kNoGroup, kLoading, kServing, kFailed };

  // Any thread, mu_ held.
  absl::Status CheckJoinLocked() const;
  absl::Status CheckAdmissionLocked() const;
  int WaitingLocked() const;  // while a group serves; below zero: seats are free
  void EnterLocked(Phase phase);
  void EndGroupLocked(const absl::Status& why);
  void PostLocked(Command command);

  // The loop's thread only.
  void Run();
  bool TakeCommands(std::deque<Command>& commands);
  void CommitResult(const v1::StepResult& result);
  void PublishStats();

  const EngineLoopOptions options_;

  mutable std::mutex mu_;
  std::condition_variable work_;     // the loop waits here
  std::condition_variable changed_;  // Drain and WaitServing wait here
  std::deque<Command> commands_;
  Phase phase_ = Phase::kNoGroup;
  GroupState group_;                           // guards itself
  std::shared_ptr<const ServedModel> joined_;  // from OnJoin to OnLost
  std::shared_ptr<GroupTransport> transport_;  // likewise
  SchedulerStats stats_;                       // after the loop's last turn
  int64_t next_id_ = 1;
  int live_count_ = 0;  // queued, waiting and running
  DrainRate drain_rate_;
  bool draining_ = false;
  absl::Time drain_deadline_ = absl::InfiniteFuture();
  bool stop_ = false;
  std::function<void(bool)> serving_listener_;
  std::mt19937_64 seeds_;

  StepDriver driver_;  // the loop's thread only
  std::thread thread_;
};

// ---- requests: API threads ----------------------------------------------------------------------

absl::Status EngineLoopImpl::CheckAdmissionLocked() const {
  if (draining_) return DrainingError();
  if (phase_ != Phase::kServing) {
    return absl::UnavailableError("no worker group is serving; retry once the cluster is ready");
  }
  const int waiting = WaitingLocked();
  if (waiting < options_.max_queue) return absl::OkStatus();
  return wire::OverloadedError(absl::StrCat("the queue is full: ", waiting,
                                            " requests wait, at most ", options_.max_queue, " may"),
                               drain_rate_.TimeFor(waiting));
}

// Running requests do not count, nor those for whom the next step has a seat.
int EngineLoopImpl::WaitingLocked() const {
  const int seats = stats_.out_of_blocks ? stats_.running : joined_->plan.max_sequences_per_step();
  return live_count_ - seats;
}

absl::Status EngineLoopImpl::CheckAdmission() const {
  std::lock_guard<std::mutex> lock(mu_);
  return CheckAdmissionLocked();
}

// Whatever takes long is done between the locks.
absl::StatusOr<int64_t> EngineLoopImpl::Submit(GenerationRequest request,
                                               std::shared_ptr<TokenSink> sink) {
  std::shared_ptr<const ServedModel> model;
  uint64_t seed = 0;
  {
    std::lock_guard<std::mutex> lock(mu_);
    TESSERA_RETURN_IF_ERROR(CheckAdmissionLocked());
    model = joined_;
    seed = seeds_();
  }
  TESSERA_ASSIGN_OR_RETURN(AdmittedRequest admitted, Admit(std::move(request), model, seed));
  admitted.sink = std::move(sink);
  std::lock_guard<std::mutex> lock(mu_);
  TESSERA_RETURN_IF_ERROR(CheckAdmissionLocked());
  if (joined_ != model) return GroupLostError();
  const int64_t id = admitted.scheduled.id = next_id_++;
  ++live_count_;
  PostLocked([this, moved = std::move(admitted)]() mutable {
    driver_.Add(std::move(moved), absl::Now());
  });
  return id;
}

void EngineLoopImpl::Cancel(int64_t id) {
  std::lock_guard<std::mutex> lock(mu_);
  PostLocked([this, id] { driver_.Cancel(id, absl::Now()); });
}

void EngineLoopImpl::Abort(int64_t id, absl::Status why) {
  std::lock_guard<std::mutex> lock(mu_);
  PostLocked([this, id, why = std::move(why)] { driver_.Fail(id, why, absl::Now()); });
}

std::shared_ptr<const ServedModel> EngineLoopImpl::model() const {
  std::lock_guard<std::mutex> lock(mu_);
  return phase_ == Phase::kServing ? joined_ : nullptr;
}

v1::GetClusterStatusResponse EngineLoopImpl::Status() const {
  v1::GetClusterStatusResponse status;
  status.set_version(TESSERA_VERSION);
  std::lock_guard<std::mutex> lock(mu_);
  status.set_requests_running(stats_.running);
  status.set_requests_waiting(std::max(0, live_count_ - stats_.running));
  *status.mutable_scheduler() = CountersOf(stats_);
  if (phase_ == Phase::kNoGroup) return status;
  v1::GroupStatus* group = status.add_groups();
  *group = group_.Snapshot();
  if (phase_ == Phase::kServing) group->set_kv_blocks_free(stats_.blocks_free);
  return status;
}

bool EngineLoopImpl::serving() const {
  std::lock_guard<std::mutex> lock(mu_);
  return phase_ == Phase::kServing && !draining_;
}

// ---- going up and down --------------------------------------------------------------------------

absl::Status EngineLoopImpl::WaitServing(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mu_);
  const absl::Time deadline = absl::Now() + timeout;
  while (phase_ != Phase::kServing && phase_ != Phase::kFailed) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("no worker group serves after ", absl::FormatDuration(timeout)));
    }
    WaitUntil(changed_, lock, deadline);
  }
  if (phase_ == Phase::kFailed) return absl::UnavailableError(group_.Snapshot().error());
  return absl::OkStatus();
}

void EngineLoopImpl::Drain(absl::Duration grace) {
  std::unique_lock<std::mutex> lock(mu_);
  draining_ = true;
  // A second, shorter Drain (a second Ctrl-C) cuts the first one short.
  drain_deadline_ = std::min(drain_deadline_, absl::Now() + grace);
  EnterLocked(phase_);
  while (live_count_ > 0 && absl::Now() < drain_deadline_) {
    WaitUntil(changed_, lock, drain_deadline_);
  }
  PostLocked([this] { driver_.FailAll(absl::UnavailableError("the server is shutting down")); });
  changed_.wait(lock, [this] { return live_count_ == 0; });
  const std::shared_ptr<GroupTransport> transport = transport_;
  lock.unlock();
  if (transport != nullptr) transport->Shutdown("the server is shutting down");
}

void EngineLoopImpl::SetServingListener(std::function<void(bool serving)> listener) {
  std::lock_guard<std::mutex> lock(mu_);
  serving_listener_ = std::move(listener);
  EnterLocked(phase_);
}

// Tells everybody who waits for the phase, or for draining.
void EngineLoopImpl::EnterLocked(Phase phase) {
  phase_ = phase;
  if (serving_listener_) serving_listener_(phase == Phase::kServing && !draining_);
  changed_.notify_all();
}

// ---- the group: transport threads ---------------------------------------------------------------

absl::Status EngineLoopImpl::CheckJoinLocked() const {
  if (draining_) return DrainingError();
  if (joined_ == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError("a worker group has already joined");
}

absl::StatusOr<v1::ShardPlan> EngineLoopImpl::OnJoin(const v1::Hello& hello,
                                                     std::shared_ptr<GroupTransport> transport) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    TESSERA_RETURN_IF_ERROR(CheckJoinLocked());
  }
  NoteStartup("coordinator: group joins");
  // The tokenizer takes a while to make; nobody else waits for it.
  absl::StatusOr<std::shared_ptr<const ServedModel>> served =
      MakeServedModel(hello, options_.layout, options_.served_model_name);
  NoteStartup("coordinator: tokenizer and plan made");
  std::lock_guard<std::mutex> lock(mu_);
  TESSERA_RETURN_IF_ERROR(CheckJoinLocked());
  if (!served.ok()) {
    group_.SetLost(served.status());
    EnterLocked(Phase::kFailed);
    return served.status();
  }
  joined_ = *std::move(served);
  transport_ = std::move(transport);
  group_.SetPlan(joined_->name, joined_->plan);
  EnterLocked(Phase::kLoading);
  return joined_->plan;
}

// A report for a rank outside the plan is a stray; it changes nothing.
void EngineLoopImpl::OnRankReport(const v1::RankReport& report) {
  if (!group_.AddReport(report).ok()) return;
  if (options_.metrics != nullptr && report.has_step_times()) {
    options_.metrics->RankTimes(report.world_rank(), report.step_times());
  }
}

void EngineLoopImpl::OnReady() {
  NoteStartup("coordinator: every rank has loaded");
  std::lock_guard<std::mutex> lock(mu_);
  if (phase_ != Phase::kLoading) return;
  PostLocked(
      [this, served = joined_, transport = transport_] { driver_.Start(*served, transport); });
  stats_ = SchedulerStats{};
  stats_.blocks_free = joined_->plan.num_kv_blocks();
  if (options_.metrics != nullptr) options_.metrics->SetModel(joined_->name);
  group_.SetReady();
  EnterLocked(Phase::kServing);
}

void EngineLoopImpl::OnStepResult(v1::StepResult result) {
  std::lock_guard<std::mutex> lock(mu_);
  PostLocked([this, moved = std::move(result)] { CommitResult(moved); });
}

void EngineLoopImpl::OnLost(absl::Status why) {
  std::lock_guard<std::mutex> lock(mu_);
  if (joined_ == nullptr) return;
  // Failed already: a group that was shut down for a wrong result. The first reason counts.
  if (phase_ != Phase::kFailed) EndGroupLocked(why);
  joined_ = nullptr;
  transport_ = nullptr;
}

// Admits nobody from here on; those admitted before stand in the queue before this command.
void EngineLoopImpl::EndGroupLocked(const absl::Status& why) {
  group_.SetLost(why);
  PostLocked([this] { driver_.Stop(GroupLostError()); });
  EnterLocked(why.ok() ? Phase::kNoGroup : Phase::kFailed);
}

void EngineLoopImpl::PostLocked(Command command) {
  commands_.push_back(std::move(command));
  work_.notify_one();
}

// ---- the loop -----------------------------------------------------------------------------------

void EngineLoopImpl::Run() {
  std::deque<Command> commands;
  while (TakeCommands(commands)) {
    for (Command& command : commands) command();
    commands.clear();
    driver_.SendPlans(absl::Now());
    PublishStats();
  }
  for (Command& command : commands) command();
  driver_.FailAll(absl::UnavailableError("the server has stopped"));
}

// Waits for commands or for the next deadline. False when the loop is to end.
bool EngineLoopImpl::TakeCommands(std::deque<Command>& commands) {
  std::unique_lock<std::mutex> lock(mu_);
  const auto woken = [this] { return stop_ || !commands_.empty(); };
  const absl::Time deadline = driver_.next_deadline();
  while (!woken() && absl::Now() < deadline) WaitUntil(work_, lock, deadline);
  commands.swap(commands_);
  return !stop_;
}

void EngineLoopImpl::CommitResult(const v1::StepResult& result) {
  const absl::Status committed = driver_.Commit(result, absl::Now());
  if (committed.ok()) return;
  const std::shared_ptr<GroupTransport> liar = driver_.transport();
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (transport_ == liar && phase_ == Phase::kServing) EndGroupLocked(committed);
  }
  liar->Shutdown(std::string(committed.message()));
}

void EngineLoopImpl::PublishStats() {
  const absl::Time now = absl::Now();
  const SchedulerStats stats = driver_.stats();
  const int ended = driver_.TakeEnded();
  const bool has_group = driver_.transport() != nullptr;
  if (has_group && options_.metrics != nullptr) options_.metrics->SchedulerState(stats);
  std::lock_guard<std::mutex> lock(mu_);
  // Before the first turn after OnReady the driver has no scheduler yet and would report no blocks.
  if (has_group) stats_ = stats;
  if (!has_group && phase_ != Phase::kServing) stats_ = SchedulerStats{};
  drain_rate_.Observe(now, ended, /*busy=*/phase_ == Phase::kServing && WaitingLocked() > 0);
  live_count_ -= ended;
  changed_.notify_all();
}

}  // namespace

std::unique_ptr<EngineLoop> EngineLoop::Create(const EngineLoopOptions& options) {
  return std::make_unique<EngineLoopImpl>(options);
}

}  // namespace tessera::coordinator
