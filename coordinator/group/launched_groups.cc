#include "coordinator/group/launched_groups.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Seconds(1);
constexpr absl::Duration kMostBackoff = absl::Seconds(30);
// A group that served so long is started again at once; one that did not, after kFirstBackoff.
constexpr absl::Duration kServedWell = absl::Seconds(5);

// What the job of a lost group gets to end by itself, and to say why: mpirun knows best which rank
// died and how. Nobody waits for the last words of one that starts again.
constexpr absl::Duration kExplanation = absl::Milliseconds(100);
constexpr absl::Duration kLastExplanation = absl::Milliseconds(700);

const v1::GroupStatus* FindGroup(const v1::GetClusterStatusResponse& status,
                                 const std::string& group_id) {
  for (const v1::GroupStatus& group : status.groups()) {
    if (group.group_id() == group_id) return &group;
  }
  return nullptr;
}

const v1::LostGroup* FindLost(const v1::GetClusterStatusResponse& status,
                              const std::string& group_id) {
  for (const v1::LostGroup& lost : status.lost_groups()) {
    if (lost.group_id() == group_id) return &lost;
  }
  return nullptr;
}

}  // namespace

absl::Duration RelaunchBackoff::After(absl::Duration served) {
  if (served > absl::ZeroDuration()) {
    failures = 0;
    return served >= kServedWell ? absl::ZeroDuration() : kFirstBackoff;
  }
  absl::Duration wait = kFirstBackoff;
  for (int i = 0; i < failures && wait < kMostBackoff; ++i) wait *= 2;
  ++failures;
  return std::min(wait, kMostBackoff);
}

LaunchedGroups::LaunchedGroups(LaunchedGroupsOptions options, ClusterService* cluster,
                               Launcher::LineCallback on_line, Tell tell)
    : options_(std::move(options)),
      cluster_(cluster),
      on_line_(std::move(on_line)),
      tell_(std::move(tell)),
      slots_(static_cast<size_t>(options_.count)) {
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i].index = static_cast<int>(i);
}

LaunchedGroups::~LaunchedGroups() {
  for (Slot& slot : slots_) EndJob(&slot);
}

absl::Status LaunchedGroups::Start() {
  for (Slot& slot : slots_) TESSERA_RETURN_IF_ERROR(Launch(&slot));
  return absl::OkStatus();
}

absl::Status LaunchedGroups::Launch(Slot* slot) {
  LaunchOptions launch = options_.launch;
  launch.group_id = absl::StrCat("group", slot->index, ".", ++slot->starts);
  slot->group_id = launch.group_id;
  slot->said.clear();
  slot->serving_since = slot->relaunch_at = absl::InfiniteFuture();
  TESSERA_ASSIGN_OR_RETURN(
      slot->job, Launcher::Start(launch, on_line_, [this, id = launch.group_id](absl::Status how) {
        MutexLock lock(&mu_);
        exits_.push_back({id, std::move(how)});
        ended_.SignalAll();
      }));
  cluster_->SetLauncher(slot->group_id, slot->job.get());
  return absl::OkStatus();
}

void LaunchedGroups::EndJob(Slot* slot) {
  if (slot->job == nullptr) return;
  cluster_->SetLauncher(slot->group_id, nullptr);
  slot->job->Terminate(absl::ZeroDuration());
  slot->job = nullptr;
}

std::optional<absl::Status> LaunchedGroups::TakeExit(const std::string& group_id) {
  MutexLock lock(&mu_);
  const auto found = std::find_if(exits_.begin(), exits_.end(),
                                  [&](const Exit& exit) { return exit.group_id == group_id; });
  if (found == exits_.end()) return std::nullopt;
  std::optional<absl::Status> how = std::move(found->how);
  exits_.erase(found);
  return how;
}

absl::Status LaunchedGroups::Tick(const v1::GetClusterStatusResponse& status, absl::Time now) {
  for (Slot& slot : slots_) {
    if (slot.job != nullptr) Look(status, now, &slot);
    if (slot.job == nullptr) {
      if (now < slot.relaunch_at) continue;
      tell_(absl::StrCat("starting worker group ", slot.index, " again"));
      const absl::Status launched = Launch(&slot);
      if (!launched.ok()) TESSERA_RETURN_IF_ERROR(Ended(launched, now, &slot));
      continue;
    }
    const std::optional<absl::Status> how = TakeExit(slot.group_id);
    if (!how) continue;
    EndJob(&slot);
    TESSERA_RETURN_IF_ERROR(Ended(*how, now, &slot));
  }
  return absl::OkStatus();
}

// A job whose group the coordinator has given up is not waited for.
void LaunchedGroups::Look(const v1::GetClusterStatusResponse& status, absl::Time now, Slot* slot) {
  const v1::GroupStatus* group = FindGroup(status, slot->group_id);
  const v1::LostGroup* lost = FindLost(status, slot->group_id);
  const bool serves = group != nullptr && group->state() == v1::GroupStatus::STATE_SERVING;
  if ((serves || lost != nullptr) && slot->serving_since == absl::InfiniteFuture()) {
    slot->serving_since = now;
    any_served_ = true;
  }
  const bool failed = group != nullptr && group->state() == v1::GroupStatus::STATE_FAILED;
  if (lost == nullptr && !failed) return;
  if (slot->said.empty()) slot->said = lost != nullptr ? lost->error() : group->error();
  const absl::Duration grace = options_.max_relaunches > 0 ? kExplanation : kLastExplanation;
  slot->job->Terminate(grace);
}

absl::Status LaunchedGroups::Ended(const absl::Status& how, absl::Time now, Slot* slot) {
  const bool served = slot->serving_since != absl::InfiniteFuture();
  // Before it served, what the group said of itself names the cause; afterwards mpirun knows best
  // which rank died and how.
  std::string why = served && !how.ok() ? std::string(how.message()) : slot->said;
  if (why.empty()) why = how.ok() ? slot->said : std::string(how.message());
  if (why.empty()) why = "mpirun ended without a word";
  const std::string line =
      absl::StrCat("the worker group ", served ? "died: " : "did not start: ", why);
  const absl::Duration served_for =
      served ? std::max(now - slot->serving_since, absl::Milliseconds(1)) : absl::ZeroDuration();
  const absl::Duration wait = slot->backoff.After(served_for);
  slot->given_up = !any_served_ || options_.max_relaunches == 0 ||
                   slot->backoff.failures > options_.max_relaunches;
  if (!slot->given_up) {
    slot->relaunch_at = now + wait;
    tell_(wait > absl::ZeroDuration()
              ? absl::StrCat(line, "; starts again in ", absl::FormatDuration(wait))
              : line);
    return absl::OkStatus();
  }
  slot->relaunch_at = absl::InfiniteFuture();
  const bool all = std::all_of(slots_.begin(), slots_.end(),
                               [](const Slot& one) { return one.given_up; });
  if (!any_served_ || all) return absl::UnavailableError(line);
  tell_(absl::StrCat(line, "; it is not started again"));
  return absl::OkStatus();
}

bool LaunchedGroups::AllServe(const v1::GetClusterStatusResponse& status) const {
  return std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    const v1::GroupStatus* group = FindGroup(status, slot.group_id);
    return slot.given_up ||
           (group != nullptr && group->state() == v1::GroupStatus::STATE_SERVING);
  });
}

void LaunchedGroups::AwaitEnd(absl::Duration timeout) {
  const absl::Time limit = absl::Now() + timeout;
  for (const Slot& slot : slots_) {
    if (slot.job == nullptr) continue;
    MutexLock lock(&mu_);
    while (slot.job->running() && !ended_.WaitWithDeadline(&mu_, limit)) {
    }
  }
}

void LaunchedGroups::Terminate(absl::Duration grace) {
  const absl::Time limit = absl::Now() + grace;
  for (Slot& slot : slots_) {
    if (slot.job != nullptr) slot.job->Terminate(std::max(absl::ZeroDuration(), limit - absl::Now()));
  }
}

}  // namespace tessera::coordinator
