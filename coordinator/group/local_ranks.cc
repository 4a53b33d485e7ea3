#include "coordinator/group/local_ranks.h"

#include <unistd.h>

namespace tessera::coordinator {

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

void LocalRanks::Add(const v1::RankReport& report) {
  if (report.pid() <= 0 || report.host() != host_) return;
  MutexLock lock(&mu_);
  const bool is_new = pids_[report.group_id()].insert(report.pid()).second;
  if (is_new && launcher_ != nullptr) launcher_->AddRankPid(report.pid());
}

void LocalRanks::Forget(const std::string& group_id) {
  MutexLock lock(&mu_);
  pids_.erase(group_id);
}

void LocalRanks::SetLauncher(Launcher* launcher) {
  MutexLock lock(&mu_);
  launcher_ = launcher;
  if (launcher == nullptr) return;
  for (const auto& [group, pids] : pids_) {
    for (const int pid : pids) launcher->AddRankPid(pid);
  }
}

}  // namespace tessera::coordinator
