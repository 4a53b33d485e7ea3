#include "coordinator/router/router.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/engine/admit.h"
#include "coordinator/engine/resumption.h"
#include "coordinator/group/group_state.h"
#include "coordinator/router/placement.h"
#include "coordinator/router/prefix_index.h"
#include "coordinator/router/stranded_requests.h"
#include "proto/base/mutex.h"
#include "proto/base/startup_times.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// Groups that may die while a request alone can be the cause.
constexpr int kMostLosses = 2;
constexpr size_t kMostLostGroups = 16;  // that are remembered
constexpr GroupHandle kNoGroup{};

absl::Status DrainingError() {
  return absl::UnavailableError("the server is shutting down and takes no new requests");
}

absl::Status NoGroupError() {
  return absl::UnavailableError("no worker group is serving; retry once the cluster is ready");
}

absl::Status PoisonError(const RequestRecord& record) {
  const std::string name =
      record.request_id.empty() ? "the request" : absl::StrCat("request ", record.request_id);
  return absl::InternalError(absl::StrCat(
      name, " was being computed when ", kMostLosses,
      " worker groups were lost, and alone can be why; it is not tried again"));
}

// With what an earlier group has computed of it.
RequestShape ShapeOf(const ScheduledRequest& request) {
  int64_t emitted = 0;
  for (const ChoiceSoFar& choice : request.so_far) {
    emitted = std::max(emitted, static_cast<int64_t>(choice.output_ids.size()));
  }
  return {.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size()) + emitted,
          .output_tokens = std::max<int64_t>(0, request.max_tokens - emitted)};
}

bool Holds(const ServedModel& model, const RequestShape& request) {
  const int64_t most =
      std::min<int64_t>(model.plan.max_model_len(),
                        int64_t{model.plan.num_kv_blocks()} * model.plan.kv_block_tokens());
  return request.prompt_tokens + (request.output_tokens > 0 ? 1 : 0) <= most;
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

// Requests that end here. Their clients hear of it when this goes, which is after the router's lock
// is free: a sink may call the router.
class Farewells {
 public:
  explicit Farewells(Metrics* metrics) : metrics_(metrics) {}
  ~Farewells() {
    for (auto& [record, why] : records_) record.Fail(why, absl::Now(), metrics_);
  }
  Farewells(const Farewells&) = delete;
  Farewells& operator=(const Farewells&) = delete;

  void Add(RequestRecord record, const absl::Status& why) {
    records_.emplace_back(std::move(record), why);
  }

 private:
  Metrics* const metrics_;
  std::vector<std::pair<RequestRecord, absl::Status>> records_;
};

// Locks: the router's before an engine's. Engines are made and used with the lock held and never
// destroyed so: their destructor waits for their thread, which may wait for the lock.
class RouterImpl final : public Router, public EngineOwner {
 public:
  RouterImpl(const EngineOptions& options, const ReplayOptions& replay)
      : options_(options), replay_(replay), seeds_(SeededGenerator()) {
    keeper_ = std::thread([this] { KeepStranded(); });
  }

  ~RouterImpl() override {
    std::map<GroupHandle, Group> groups;  // go once the lock is free
    {
      Farewells farewells(options_.metrics);
      MutexLock lock(&mu_);
      EndAll(absl::UnavailableError("the server has stopped"), &farewells);
      stopping_ = true;
      stranded_changed_.SignalAll();
      groups.swap(groups_);
    }
    keeper_.join();
  }

  absl::Status CheckAdmission() const override {
    MutexLock lock(&mu_);
    const absl::Status any = AnyWithRoom(nullptr).status();
    return !any.ok() && ModelToComeBack(nullptr) != nullptr ? absl::OkStatus() : any;
  }
  absl::StatusOr<int64_t> Submit(PreparedRequest request,
                                 std::shared_ptr<TokenSink> sink) override;
  void Cancel(int64_t id) override;
  void Abort(int64_t id, absl::Status why) override;

  std::vector<std::shared_ptr<const ServedModel>> models() const override;
  v1::GetClusterStatusResponse Status() const override;
  bool serving() const override {
    MutexLock lock(&mu_);
    return IsServing();
  }
  void Drain(absl::Duration grace) override;
  void GiveUp(const absl::Status& why) override;
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
  void OnReady(GroupHandle group) override;
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
  void OnUnfinished(std::vector<AdmittedRequest> requests) override;
  void OnGroupFailed(GroupHandle group, const absl::Status& why) override;

 private:
  // A worker group that has joined.
  struct Group {
    std::string id;                  // as it calls itself
    std::unique_ptr<Engine> engine;  // null while its model is looked at
    PrefixIndex prefixes{1};

    bool serving() const {
      return engine != nullptr && engine->phase() == Engine::Phase::kServing;
    }
  };
  // A request that is neither ended nor cancelled.
  struct Live {
    GroupHandle group = kNoGroup;  // whose engine has it; kNoGroup: stranded
    // Cancelled (OK) or aborted while it was on its way back from a lost group.
    std::optional<absl::Status> last_word = std::nullopt;
  };
  struct LostGroup {
    GroupHandle handle = kNoGroup;
    v1::LostGroup told;
    absl::Time at;
    std::shared_ptr<Resumption> resumption;
  };
  // A model whose last group was lost.
  struct LostModel {
    std::shared_ptr<const ServedModel> model;
    absl::Time until;  // then nobody waits for another one any more
  };
  // What a request asks of the group that it goes to.
  struct Wanted {
    const ServedModel* model = nullptr;
    RequestShape shape = {};
    absl::Span<const uint64_t> prefix = {};
    bool is_replay = false;  // a full queue, or one that drains, does not turn it away
  };

  // Some engine that would let a request in now, or why none would. `model`: null for any.
  absl::StatusOr<Engine*> AnyWithRoom(const ServedModel* model) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Where a request goes, or why it goes nowhere.
  absl::StatusOr<GroupHandle> Choose(const Wanted& wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const ServedModel> ModelToComeBack(const ServedModel* wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Strand(AdmittedRequest request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Give(AdmittedRequest request, GroupHandle group, absl::Span<const uint64_t> prefix)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool GoesOn(AdmittedRequest& request, Farewells* farewells) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void GoOnElsewhere(AdmittedRequest request, Farewells* farewells)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteMoved(std::vector<AdmittedRequest>& requests) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(AdmittedRequest request, const absl::Status& why, Farewells* farewells)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAll(const absl::Status& why, Farewells* farewells) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void KeepStranded();

  absl::Status CheckJoin(const ServedModel& model) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<std::shared_ptr<const ServedModel>> KnownModels() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int FreePlace() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RefuseGroup(const std::string& id, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteLost(GroupHandle handle, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Engine* Find(GroupHandle group) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = groups_.find(group);
    return found == groups_.end() ? nullptr : found->second.engine.get();
  }
  bool AnyServing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return std::any_of(groups_.begin(), groups_.end(),
                       [](const auto& group) { return group.second.serving(); });
  }
  bool IsServing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !draining_ && AnyServing(); }
  std::optional<v1::GroupStatus> Failed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Everybody who waits for a group, or for draining.
  void TellChange() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (serving_listener_) serving_listener_(IsServing());
    changed_.SignalAll();
  }

  const EngineOptions options_;
  const ReplayOptions replay_;

  mutable Mutex mu_;
  CondVar changed_;  // Drain and WaitServing wait here
  CondVar stranded_changed_;  // the keeper waits here
  std::map<GroupHandle, Group> groups_ ABSL_GUARDED_BY(mu_);
  std::optional<v1::GroupStatus> failed_ ABSL_GUARDED_BY(mu_);  // the last group, until the next
  std::unordered_map<int64_t, Live> live_ ABSL_GUARDED_BY(mu_);
  StrandedRequests stranded_ ABSL_GUARDED_BY(mu_);
  std::deque<LostGroup> lost_ ABSL_GUARDED_BY(mu_);  // the newest last
  std::map<std::string, LostModel> lost_models_ ABSL_GUARDED_BY(mu_);  // by name
  int64_t moved_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<absl::Status> given_up_ ABSL_GUARDED_BY(mu_);  // no group will come: why
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mu_);     // nothing goes on any more: why
  int64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t last_handle_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time drain_deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  std::function<void(bool)> serving_listener_ ABSL_GUARDED_BY(mu_);
  std::mt19937_64 seeds_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread keeper_;
};

// ---- requests -----------------------------------------------------------------------------------

absl::StatusOr<GroupHandle> RouterImpl::Choose(const Wanted& wanted) const {
  if (draining_ && !wanted.is_replay) return DrainingError();
  std::vector<GroupHandle> handles;
  std::vector<Candidate> candidates;
  const Engine* full = nullptr;
  for (const auto& [handle, group] : groups_) {
    if (group.engine == nullptr || !IsSameModel(*group.engine->model(), *wanted.model)) continue;
    if (wanted.is_replay && !Holds(*group.engine->model(), wanted.shape)) continue;
    const EngineLoad load = group.engine->load();
    if (!load.serving) continue;
    if (!wanted.is_replay && !load.has_room) {
      full = group.engine.get();
      continue;
    }
    handles.push_back(handle);
    candidates.push_back({.load = load, .cached_tokens = group.prefixes.Match(wanted.prefix)});
  }
  if (!handles.empty()) return handles[Best(candidates, wanted.shape)];
  TESSERA_RETURN_IF_ERROR(full == nullptr ? NoGroupError() : full->CheckRoom());
  return NoGroupError();  // it has room again, or is lost, since it was asked
}

absl::StatusOr<Engine*> RouterImpl::AnyWithRoom(const ServedModel* model) const {
  if (draining_) return DrainingError();
  absl::Status why = NoGroupError();
  for (const auto& [handle, group] : groups_) {
    if (!group.serving()) continue;
    if (model != nullptr && !IsSameModel(*group.engine->model(), *model)) continue;
    const absl::Status room = group.engine->CheckRoom();
    if (room.ok()) return group.engine.get();
    why = room;
  }
  return why;
}

void RouterImpl::Give(AdmittedRequest request, GroupHandle handle,
                      absl::Span<const uint64_t> prefix) {
  Group& group = groups_.at(handle);
  live_[request.record.id].group = handle;
  if (!prefix.empty()) group.prefixes.Add(prefix);
  group.engine->Add(std::move(request));
}

// Whatever takes long is done between the locks.
absl::StatusOr<int64_t> RouterImpl::Submit(PreparedRequest request,
                                           std::shared_ptr<TokenSink> sink) {
  std::shared_ptr<const ServedModel> model = request.model;
  uint64_t seed = 0;
  bool has_choice = false;
  {
    MutexLock lock(&mu_);
    const absl::StatusOr<Engine*> any = AnyWithRoom(model.get());
    model = any.ok() ? (*any)->model() : ModelToComeBack(model.get());
    if (model == nullptr) return any.status();
    seed = seeds_();
    has_choice = groups_.size() > 1;
  }
  TESSERA_ASSIGN_OR_RETURN(AdmittedRequest admitted, Admit(std::move(request), model, seed));
  admitted.record.sink = std::move(sink);
  const ScheduledRequest& scheduled = admitted.scheduled;
  std::vector<uint64_t> prefix;
  if (has_choice) prefix = PrefixHashes(scheduled.tenant, scheduled.prompt_ids);
  MutexLock lock(&mu_);
  const absl::StatusOr<GroupHandle> chosen =
      Choose({.model = model.get(), .shape = ShapeOf(scheduled), .prefix = prefix});
  if (!chosen.ok() && ModelToComeBack(model.get()) == nullptr) return chosen.status();
  const int64_t id = ++last_id_;
  admitted.scheduled.id = admitted.record.id = id;
  if (chosen.ok()) {
    Give(std::move(admitted), *chosen, prefix);
  } else {
    Strand(std::move(admitted));
  }
  return id;
}

// What a request that finds no group may wait for: null where none can be expected soon, or where
// too many wait already. `wanted`: null for any.
std::shared_ptr<const ServedModel> RouterImpl::ModelToComeBack(const ServedModel* wanted) const {
  if (draining_ || given_up_ || stranded_.size() >= options_.limits.max_queue) return nullptr;
  for (const auto& entry : lost_models_) {
    const LostModel& lost = entry.second;
    if (lost.until <= absl::Now()) continue;
    if (wanted != nullptr && !IsSameModel(*lost.model, *wanted)) continue;
    const bool serves = std::any_of(groups_.begin(), groups_.end(), [&](const auto& group) {
      return group.second.serving() && IsSameModel(*group.second.engine->model(), *lost.model);
    });
    if (!serves) return lost.model;
  }
  return nullptr;
}

void RouterImpl::Strand(AdmittedRequest request) {
  live_[request.record.id].group = kNoGroup;
  stranded_.Add(std::move(request), absl::Now() + replay_.patience);
  stranded_changed_.SignalAll();
}

void RouterImpl::Cancel(int64_t id) {
  MutexLock lock(&mu_);
  const auto live = live_.find(id);
  if (live == live_.end()) return;
  if (auto stranded = stranded_.Take(id)) {
    stranded->record.Cancelled(absl::Now(), options_.metrics);
    live_.erase(live);
    return changed_.SignalAll();
  }
  Engine* engine = Find(live->second.group);
  if (engine == nullptr || !engine->Cancel(id)) live->second.last_word = absl::OkStatus();
}

void RouterImpl::Abort(int64_t id, absl::Status why) {
  Farewells farewells(options_.metrics);
  MutexLock lock(&mu_);
  const auto live = live_.find(id);
  if (live == live_.end()) return;
  if (auto stranded = stranded_.Take(id)) return End(*std::move(stranded), why, &farewells);
  Engine* engine = Find(live->second.group);
  if (engine == nullptr || !engine->Abort(id, why)) live->second.last_word = std::move(why);
}

std::vector<std::shared_ptr<const ServedModel>> RouterImpl::models() const {
  std::vector<std::shared_ptr<const ServedModel>> models;
  MutexLock lock(&mu_);
  for (const auto& [handle, group] : groups_) {
    if (!group.serving()) continue;
    const std::shared_ptr<const ServedModel>& its = group.engine->model();
    const bool is_new = std::none_of(models.begin(), models.end(),
                                     [&](const auto& model) { return model->name == its->name; });
    if (is_new) models.push_back(its);
  }
  if (models.empty()) {
    if (auto model = ModelToComeBack(nullptr)) models.push_back(std::move(model));
  }
  return models;
}

// ---- requests whose group was lost --------------------------------------------------------------

// False when it has ended meanwhile, or is the one that kills groups.
bool RouterImpl::GoesOn(AdmittedRequest& request, Farewells* farewells) {
  const auto live = live_.find(request.record.id);
  const std::optional<absl::Status> last_word =
      live == live_.end() ? absl::OkStatus() : live->second.last_word;
  if (last_word && last_word->ok()) {
    request.record.Cancelled(absl::Now(), options_.metrics);
    if (live != live_.end()) live_.erase(live);
    return false;
  }
  std::optional<absl::Status> failure = last_word ? last_word : ended_;
  if (!failure && request.scheduled.losses >= kMostLosses) failure = PoisonError(request.record);
  if (failure) End(std::move(request), *failure, farewells);
  return !failure;
}

void RouterImpl::OnUnfinished(std::vector<AdmittedRequest> requests) {
  Farewells farewells(options_.metrics);
  MutexLock lock(&mu_);
  std::vector<AdmittedRequest> left;
  for (AdmittedRequest& request : requests) {
    if (GoesOn(request, &farewells)) left.push_back(std::move(request));
  }
  NoteMoved(left);
  for (AdmittedRequest& request : left) GoOnElsewhere(std::move(request), &farewells);
  changed_.SignalAll();
}

void RouterImpl::NoteMoved(std::vector<AdmittedRequest>& requests) {
  if (requests.empty()) return;
  const int count = static_cast<int>(requests.size());
  moved_ += count;
  if (options_.metrics != nullptr) options_.metrics->RequestsMoved(count);
  const GroupHandle group = live_[requests.front().record.id].group;
  const auto lost = std::find_if(lost_.rbegin(), lost_.rend(),
                                 [&](const LostGroup& one) { return one.handle == group; });
  if (lost == lost_.rend() || lost->resumption != nullptr) return;
  lost->told.set_requests_moved(count);
  lost->resumption = std::make_shared<Resumption>(lost->at, count);
  for (AdmittedRequest& request : requests) {
    request.record.Resumed(lost->at);  // of a loss before this one
    request.record.resumption = lost->resumption;
  }
}

// To the best group that can take it, or among those that wait for one.
void RouterImpl::GoOnElsewhere(AdmittedRequest request, Farewells* farewells) {
  const ScheduledRequest& scheduled = request.scheduled;
  std::vector<uint64_t> prefix;
  if (groups_.size() > 1) prefix = PrefixHashes(scheduled.tenant, scheduled.prompt_ids);
  const absl::StatusOr<GroupHandle> chosen = Choose({.model = request.record.model.get(),
                                                     .shape = ShapeOf(scheduled),
                                                     .prefix = prefix,
                                                     .is_replay = true});
  if (chosen.ok()) return Give(std::move(request), *chosen, prefix);
  if (given_up_) return End(std::move(request), *given_up_, farewells);
  Strand(std::move(request));
}

void RouterImpl::End(AdmittedRequest request, const absl::Status& why, Farewells* farewells) {
  live_.erase(request.record.id);
  farewells->Add(std::move(request.record), why);
  changed_.SignalAll();
}

// Every live request; those that come back from a lost group as well, now and later.
void RouterImpl::EndAll(const absl::Status& why, Farewells* farewells) {
  ended_ = why;
  for (const auto& [handle, group] : groups_) {
    if (group.engine != nullptr) group.engine->AbortAll(why);
  }
  for (AdmittedRequest& request : stranded_.TakeAll()) End(std::move(request), why, farewells);
}

void RouterImpl::GiveUp(const absl::Status& why) {
  Farewells farewells(options_.metrics);
  MutexLock lock(&mu_);
  given_up_ = why;
  lost_models_.clear();
  for (AdmittedRequest& request : stranded_.TakeAll()) End(std::move(request), why, &farewells);
}

// The keeper's thread.
void RouterImpl::KeepStranded() {
  for (;;) {
    Farewells farewells(options_.metrics);
    MutexLock lock(&mu_);
    while (!stopping_ && stranded_.next_due() > absl::Now()) {
      stranded_changed_.WaitWithDeadline(&mu_, stranded_.next_due());
    }
    if (stopping_) return;
    const absl::Time now = absl::Now();
    for (AdmittedRequest& request : stranded_.TakeDue(now)) {
      const bool expired = request.record.deadline <= now;
      End(std::move(request),
          expired ? absl::DeadlineExceededError("the request's deadline passed")
                  : GroupLostError(),
          &farewells);
    }
  }
}

v1::GetClusterStatusResponse RouterImpl::Status() const {
  v1::GetClusterStatusResponse status;
  status.set_version(TESSERA_VERSION);
  status.mutable_scheduler();
  MutexLock lock(&mu_);
  for (const auto& [handle, group] : groups_) {
    if (group.engine == nullptr) continue;
    status.set_requests_running(status.requests_running() + group.engine->running());
    status.set_requests_waiting(status.requests_waiting() + group.engine->waiting());
    *status.add_groups() = group.engine->Status();
    status.mutable_groups()->rbegin()->set_group_id(group.id);
    AddCounters(status.groups().rbegin()->scheduler(), status.mutable_scheduler());
  }
  if (status.groups().empty() && failed_) *status.add_groups() = *failed_;
  for (const LostGroup& lost : lost_) {
    v1::LostGroup* told = status.add_lost_groups();
    *told = lost.told;
    const auto took = lost.resumption == nullptr ? std::nullopt : lost.resumption->took();
    if (took) told->set_resume_micros(absl::ToInt64Microseconds(*took));
  }
  status.set_requests_stranded(stranded_.size());
  status.set_requests_moved(moved_);
  return status;
}

// ---- going up and down --------------------------------------------------------------------------

std::optional<v1::GroupStatus> RouterImpl::Failed() const {
  for (const auto& [handle, group] : groups_) {
    if (group.engine != nullptr && group.engine->phase() == Engine::Phase::kFailed) {
      return group.engine->Status();
    }
  }
  return groups_.empty() ? failed_ : std::nullopt;
}

absl::Status RouterImpl::WaitServing(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mu_);
  while (!AnyServing()) {
    if (const auto failed = Failed()) return absl::UnavailableError(failed->error());
    if (changed_.WaitWithDeadline(&mu_, deadline) && !AnyServing() && !Failed()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no worker group serves after ", absl::FormatDuration(timeout)));
    }
  }
  return absl::OkStatus();
}

void RouterImpl::Drain(absl::Duration grace) {
  std::vector<std::shared_ptr<GroupTransport>> transports;
  {
    Farewells farewells(options_.metrics);
    MutexLock lock(&mu_);
    draining_ = true;
    // A second, shorter Drain (a second Ctrl-C) cuts the first one short.
    drain_deadline_ = std::min(drain_deadline_, absl::Now() + grace);
    TellChange();
    while (!live_.empty() && absl::Now() < drain_deadline_) {
      changed_.WaitWithDeadline(&mu_, drain_deadline_);
    }
    EndAll(absl::UnavailableError("the server is shutting down"), &farewells);
    while (!live_.empty()) changed_.Wait(&mu_);
    for (const auto& [handle, group] : groups_) {
      if (group.engine != nullptr) transports.push_back(group.engine->transport());
    }
  }
  for (const auto& transport : transports) transport->Shutdown("the server is shutting down");
}

// ---- groups -------------------------------------------------------------------------------------

// One name, one model: its clients do not know which group answers.
absl::Status RouterImpl::CheckJoin(const ServedModel& model) const {
  if (ended_) return *ended_;
  for (const auto& [handle, group] : groups_) {
    if (group.engine == nullptr) continue;
    const ServedModel& other = *group.engine->model();
    if (other.name != model.name || IsSameModel(other, model)) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "another model is served as ", model.name, " (group ", group.id,
        "); give this one a name of its own (--served-model-name of its workers)"));
  }
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const ServedModel>> RouterImpl::KnownModels() const {
  std::vector<std::shared_ptr<const ServedModel>> models;
  for (const auto& [handle, group] : groups_) {
    if (group.engine != nullptr) models.push_back(group.engine->model());
  }
  return models;
}

absl::StatusOr<JoinedGroup> RouterImpl::OnJoin(const v1::Hello& hello,
                                               std::shared_ptr<GroupTransport> transport) {
  GroupHandle handle{};
  std::vector<std::shared_ptr<const ServedModel>> known;
  {
    MutexLock lock(&mu_);
    if (ended_) return *ended_;
    handle = GroupHandle{++last_handle_};
    groups_[handle].id = hello.group_id();
    known = KnownModels();
  }
  NoteStartup("coordinator: group joins");
  // The tokenizer takes a while to make; nobody else waits for it.
  absl::StatusOr<std::shared_ptr<const ServedModel>> served =
      MakeServedModel(hello, options_.layout, options_.served_model_name, known);
  NoteStartup("coordinator: tokenizer and plan made");
  MutexLock lock(&mu_);
  if (served.ok()) {
    if (const absl::Status may = CheckJoin(**served); !may.ok()) served = may;
  }
  if (!served.ok()) {
    groups_.erase(handle);
    if (!ended_) RefuseGroup(hello.group_id(), served.status());
    return served.status();
  }
  const int place = FreePlace();
  if (options_.metrics != nullptr) options_.metrics->BeginGroup(place);
  const v1::ShardPlan& plan = (*served)->plan;
  const int64_t cached = int64_t{plan.num_kv_blocks()} * plan.kv_block_tokens() / kPrefixTokens;
  JoinedGroup joined{.handle = handle, .plan = plan};
  Group& group = groups_[handle];
  group.prefixes = PrefixIndex(static_cast<size_t>(std::max<int64_t>(1, cached)));
  group.engine = Engine::Create(
      options_,
      {.handle = handle, .place = place, .model = *std::move(served), .transport = std::move(transport)}, this);
  failed_.reset();
  TellChange();
  return joined;
}

// The lowest that no engine has.
int RouterImpl::FreePlace() const {
  std::vector<int> taken;
  for (const auto& [handle, group] : groups_) {
    if (group.engine != nullptr) taken.push_back(group.engine->place());
  }
  int place = 0;
  while (std::find(taken.begin(), taken.end(), place) != taken.end()) ++place;
  return place;
}

// It never had an engine; people look for its failure all the same.
void RouterImpl::RefuseGroup(const std::string& id, const absl::Status& why) {
  GroupState state;
  state.SetLost(why);
  failed_ = state.Snapshot();
  failed_->set_group_id(id);
  TellChange();
}

void RouterImpl::OnReady(GroupHandle group) {
  Farewells farewells(options_.metrics);
  MutexLock lock(&mu_);
  Engine* engine = Find(group);
  if (engine == nullptr) return;
  engine->OnReady();
  given_up_.reset();
  for (AdmittedRequest& request : stranded_.TakeAll()) {
    GoOnElsewhere(std::move(request), &farewells);
  }
  TellChange();
}

void RouterImpl::OnGroupFailed(GroupHandle group, const absl::Status& why) {
  MutexLock lock(&mu_);
  NoteLost(group, why);
  TellChange();
}

// Before the engine gives its requests back.
void RouterImpl::NoteLost(GroupHandle handle, const absl::Status& why) {
  const auto known = std::find_if(lost_.begin(), lost_.end(), [&](const LostGroup& lost) {
    return lost.handle == handle;
  });
  const auto group = groups_.find(handle);
  if (known != lost_.end() || group == groups_.end()) return;
  const std::shared_ptr<const ServedModel>& model = group->second.engine->model();
  lost_models_[model->name] = {model, absl::Now() + replay_.patience};
  LostGroup& lost = lost_.emplace_back();
  lost.handle = handle;
  lost.told.set_group_id(group->second.id);
  lost.told.set_group(group->second.engine->place());
  lost.told.set_error(std::string(why.message()));
  lost.at = absl::Now();
  lost.told.set_lost_unix_millis(absl::ToUnixMillis(lost.at));
  if (lost_.size() > kMostLostGroups) lost_.pop_front();
  if (options_.metrics != nullptr) options_.metrics->GroupLost();
}

void RouterImpl::OnLost(GroupHandle handle, absl::Status why) {
  Group lost;  // goes once the lock is free
  {
    MutexLock lock(&mu_);
    const auto found = groups_.find(handle);
    if (found == groups_.end() || found->second.engine == nullptr) return;
    if (found->second.serving() && !why.ok()) NoteLost(handle, why);
    lost = std::move(found->second);
    groups_.erase(found);
    lost.engine->OnLost(why);
    failed_.reset();
    if (lost.engine->phase() == Engine::Phase::kFailed) {
      failed_ = lost.engine->Status();
      failed_->set_group_id(lost.id);
    }
    TellChange();
  }
}

}  // namespace

std::unique_ptr<Router> Router::Create(const EngineOptions& options,
                                       const ReplayOptions& replay) {
  return std::make_unique<RouterImpl>(options, replay);
}

}  // namespace tessera::coordinator
