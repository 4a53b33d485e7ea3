#include "coordinator/router/router.h"

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/engine/admit.h"
#include "coordinator/group/group_state.h"
#include "proto/base/mutex.h"
#include "proto/base/startup_times.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

absl::Status DrainingError() {
  return absl::UnavailableError("the server is shutting down and takes no new requests");
}

std::mt19937_64 SeededGenerator() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device()};
  return std::mt19937_64(seed);
}

void AddCounters(const v1::SchedulerCounters& of_group, v1::SchedulerCounters* total) {
  total->set_preemptions(total->preemptions() + of_group.preemptions());
  total->set_steps(total->steps() + of_group.steps());
  total->set_tokens_computed(total->tokens_computed() + of_group.tokens_computed());
  total->set_prefix_cache_queries(total->prefix_cache_queries() + of_group.prefix_cache_queries());
  total->set_prefix_cache_hits(total->prefix_cache_hits() + of_group.prefix_cache_hits());
  total->set_compute_micros(total->compute_micros() + of_group.compute_micros());
  total->set_stall_micros(total->stall_micros() + of_group.stall_micros());
}

// Locks: the router's before an engine's. Engines are made and used with the lock held and never
// destroyed so: their destructor waits for their thread, which may wait for the lock.
class RouterImpl final : public Router, public EngineOwner {
 public:
  explicit RouterImpl(const EngineOptions& options)
      : options_(options), seeds_(SeededGenerator()) {}

  ~RouterImpl() override {
    std::map<GroupHandle, std::unique_ptr<Engine>> engines;  // go once the lock is free
    MutexLock lock(&mu_);
    engines.swap(engines_);
  }

  absl::Status CheckAdmission() const override {
    MutexLock lock(&mu_);
    return Choose().status();
  }
  absl::StatusOr<int64_t> Submit(PreparedRequest request,
                                 std::shared_ptr<TokenSink> sink) override;
  void Cancel(int64_t id) override {
    MutexLock lock(&mu_);
    if (Engine* engine = EngineOf(id)) engine->Cancel(id);
  }
  void Abort(int64_t id, absl::Status why) override {
    MutexLock lock(&mu_);
    if (Engine* engine = EngineOf(id)) engine->Abort(id, std::move(why));
  }

  std::shared_ptr<const ServedModel> model() const override {
    MutexLock lock(&mu_);
    const Engine* engine = AnyServing();
    return engine == nullptr ? nullptr : engine->model();
  }
  v1::GetClusterStatusResponse Status() const override;
  bool serving() const override {
    MutexLock lock(&mu_);
    return IsServing();
  }
  void Drain(absl::Duration grace) override;
  absl::Status WaitServing(absl::Duration timeout) override;
  void SetServingListener(std::function<void(bool serving)> listener) override {
    MutexLock lock(&mu_);
    serving_listener_ = std::move(listener);
    TellChange();
  }

  // GroupObserver
  absl::StatusOr<JoinedGroup> OnJoin(const v1::Hello& hello,
                                     std::shared_ptr<GroupTransport> transport) override;
  void OnRankReport(GroupHandle group, const v1::RankReport& report) override {
    MutexLock lock(&mu_);
    if (Engine* engine = Find(group)) engine->OnRankReport(report);
  }
  void OnReady(GroupHandle group) override {
    MutexLock lock(&mu_);
    if (Engine* engine = Find(group)) engine->OnReady();
    TellChange();
  }
  void OnStepResult(GroupHandle group, v1::StepResult result) override {
    MutexLock lock(&mu_);
    if (Engine* engine = Find(group)) engine->OnStepResult(std::move(result));
  }
  void OnLost(GroupHandle group, absl::Status why) override;

  // EngineOwner
  void OnEnded(const std::vector<int64_t>& ids) override {
    MutexLock lock(&mu_);
    for (const int64_t id : ids) live_.erase(id);
    changed_.SignalAll();
  }
  void OnUnfinished(std::vector<RequestRecord> requests) override;
  void OnGroupFailed() override {
    MutexLock lock(&mu_);
    TellChange();
  }

 private:
  // Where the next request goes, or why it goes nowhere.
  absl::StatusOr<std::pair<GroupHandle, Engine*>> Choose() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckJoin() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int FreePlace() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RefuseGroup(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Engine* Find(GroupHandle group) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = engines_.find(group);
    return found == engines_.end() ? nullptr : found->second.get();
  }
  Engine* EngineOf(int64_t id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = live_.find(id);
    return found == live_.end() ? nullptr : Find(found->second);
  }
  Engine* AnyServing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const auto& [group, engine] : engines_) {
      if (engine->phase() == Engine::Phase::kServing) return engine.get();
    }
    return nullptr;
  }
  bool IsServing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !draining_ && AnyServing() != nullptr;
  }
  std::optional<v1::GroupStatus> Failed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Everybody who waits for a group, or for draining.
  void TellChange() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (serving_listener_) serving_listener_(IsServing());
    changed_.SignalAll();
  }

  const EngineOptions options_;

  mutable Mutex mu_;
  CondVar changed_;  // Drain and WaitServing wait here
  std::map<GroupHandle, std::unique_ptr<Engine>> engines_ ABSL_GUARDED_BY(mu_);
  std::map<GroupHandle, std::string> group_ids_ ABSL_GUARDED_BY(mu_);  // joining, or with an engine
  std::optional<v1::GroupStatus> failed_ ABSL_GUARDED_BY(mu_);  // the last group, until the next
  std::unordered_map<int64_t, GroupHandle> live_ ABSL_GUARDED_BY(mu_);  // whose engine has them
  int64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t last_handle_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time drain_deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  std::function<void(bool)> serving_listener_ ABSL_GUARDED_BY(mu_);
  std::mt19937_64 seeds_ ABSL_GUARDED_BY(mu_);
};

// ---- requests -----------------------------------------------------------------------------------

absl::StatusOr<std::pair<GroupHandle, Engine*>> RouterImpl::Choose() const {
  if (draining_) return DrainingError();
  for (const auto& [group, engine] : engines_) {
    if (engine->phase() != Engine::Phase::kServing) continue;
    TESSERA_RETURN_IF_ERROR(engine->CheckRoom());
    return std::pair(group, engine.get());
  }
  return absl::UnavailableError("no worker group is serving; retry once the cluster is ready");
}

// Whatever takes long is done between the locks.
absl::StatusOr<int64_t> RouterImpl::Submit(PreparedRequest request,
                                           std::shared_ptr<TokenSink> sink) {
  std::shared_ptr<const ServedModel> model;
  uint64_t seed = 0;
  {
    MutexLock lock(&mu_);
    TESSERA_ASSIGN_OR_RETURN(const auto chosen, Choose());
    model = chosen.second->model();
    seed = seeds_();
  }
  TESSERA_ASSIGN_OR_RETURN(AdmittedRequest admitted, Admit(std::move(request), model, seed));
  admitted.record.sink = std::move(sink);
  MutexLock lock(&mu_);
  TESSERA_ASSIGN_OR_RETURN(const auto chosen, Choose());
  const auto [group, engine] = chosen;
  if (engine->model() != model) return GroupLostError();
  const int64_t id = ++last_id_;
  admitted.scheduled.id = admitted.record.id = id;
  live_.emplace(id, group);
  engine->Add(std::move(admitted));
  return id;
}

void RouterImpl::OnUnfinished(std::vector<RequestRecord> requests) {
  std::vector<int64_t> ids;
  for (RequestRecord& request : requests) {
    ids.push_back(request.id);
    request.Fail(GroupLostError(), absl::Now(), options_.metrics);
  }
  OnEnded(ids);
}

v1::GetClusterStatusResponse RouterImpl::Status() const {
  v1::GetClusterStatusResponse status;
  status.set_version(TESSERA_VERSION);
  status.mutable_scheduler();
  MutexLock lock(&mu_);
  for (const auto& [group, engine] : engines_) {
    status.set_requests_running(status.requests_running() + engine->running());
    status.set_requests_waiting(status.requests_waiting() + engine->waiting());
    *status.add_groups() = engine->Status();
    AddCounters(status.groups().rbegin()->scheduler(), status.mutable_scheduler());
  }
  if (engines_.empty() && failed_) *status.add_groups() = *failed_;
  return status;
}

// ---- going up and down --------------------------------------------------------------------------

std::optional<v1::GroupStatus> RouterImpl::Failed() const {
  for (const auto& [group, engine] : engines_) {
    if (engine->phase() == Engine::Phase::kFailed) return engine->Status();
  }
  return engines_.empty() ? failed_ : std::nullopt;
}

absl::Status RouterImpl::WaitServing(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mu_);
  while (AnyServing() == nullptr) {
    if (const auto failed = Failed()) return absl::UnavailableError(failed->error());
    if (changed_.WaitWithDeadline(&mu_, deadline) && AnyServing() == nullptr && !Failed()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no worker group serves after ", absl::FormatDuration(timeout)));
    }
  }
  return absl::OkStatus();
}

void RouterImpl::Drain(absl::Duration grace) {
  std::vector<std::shared_ptr<GroupTransport>> transports;
  {
    MutexLock lock(&mu_);
    draining_ = true;
    // A second, shorter Drain (a second Ctrl-C) cuts the first one short.
    drain_deadline_ = std::min(drain_deadline_, absl::Now() + grace);
    TellChange();
    while (!live_.empty() && absl::Now() < drain_deadline_) {
      changed_.WaitWithDeadline(&mu_, drain_deadline_);
    }
    for (const auto& [group, engine] : engines_) {
      engine->AbortAll(absl::UnavailableError("the server is shutting down"));
    }
    while (!live_.empty()) changed_.Wait(&mu_);
    for (const auto& [group, engine] : engines_) transports.push_back(engine->transport());
  }
  for (const auto& transport : transports) transport->Shutdown("the server is shutting down");
}

// ---- groups -------------------------------------------------------------------------------------

absl::Status RouterImpl::CheckJoin() const {
  if (draining_) return DrainingError();
  if (group_ids_.empty()) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("this coordinator already has a worker group (",
                                               group_ids_.begin()->second, "); one at a time"));
}

absl::StatusOr<JoinedGroup> RouterImpl::OnJoin(const v1::Hello& hello,
                                               std::shared_ptr<GroupTransport> transport) {
  GroupHandle group{};
  {
    MutexLock lock(&mu_);
    TESSERA_RETURN_IF_ERROR(CheckJoin());
    group = GroupHandle{++last_handle_};
    group_ids_.emplace(group, hello.group_id());
  }
  NoteStartup("coordinator: group joins");
  // The tokenizer takes a while to make; nobody else waits for it.
  absl::StatusOr<std::shared_ptr<const ServedModel>> served =
      MakeServedModel(hello, options_.layout, options_.served_model_name);
  NoteStartup("coordinator: tokenizer and plan made");
  MutexLock lock(&mu_);
  if (draining_) served = DrainingError();
  if (!served.ok()) {
    group_ids_.erase(group);
    if (!draining_) RefuseGroup(served.status());
    return served.status();
  }
  const int place = FreePlace();
  if (options_.metrics != nullptr) options_.metrics->BeginGroup(place);
  JoinedGroup joined{.handle = group, .plan = (*served)->plan};
  engines_.emplace(group, Engine::Create(options_,
                                         {.place = place,
                                          .model = *std::move(served),
                                          .transport = std::move(transport)},
                                         this));
  failed_.reset();
  TellChange();
  return joined;
}

// The lowest that no engine has.
int RouterImpl::FreePlace() const {
  std::vector<int> taken;
  for (const auto& [group, engine] : engines_) taken.push_back(engine->place());
  int place = 0;
  while (std::find(taken.begin(), taken.end(), place) != taken.end()) ++place;
  return place;
}

// It never had an engine; people look for its failure all the same.
void RouterImpl::RefuseGroup(const absl::Status& why) {
  GroupState state;
  state.SetLost(why);
  failed_ = state.Snapshot();
  TellChange();
}

void RouterImpl::OnLost(GroupHandle group, absl::Status why) {
  std::unique_ptr<Engine> lost;  // goes once the lock is free
  {
    MutexLock lock(&mu_);
    const auto found = engines_.find(group);
    if (found == engines_.end()) return;
    lost = std::move(found->second);
    lost->OnLost(why);
    engines_.erase(found);
    group_ids_.erase(group);
    failed_.reset();
    if (lost->phase() == Engine::Phase::kFailed) failed_ = lost->Status();
    TellChange();
  }
}

}  // namespace

std::unique_ptr<Router> Router::Create(const EngineOptions& options) {
  return std::make_unique<RouterImpl>(options);
}

}  // namespace tessera::coordinator
