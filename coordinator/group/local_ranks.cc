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
  const auto launcher = launchers_.find(report.group_id());
  if (is_new && launcher != launchers_.end()) launcher->second->AddRankPid(report.pid());
}

void LocalRanks::Forget(const std::string& group_id) {
  MutexLock lock(&mu_);
  pids_.erase(group_id);
}

void LocalRanks::SetLauncher(const std::string& group_id, Launcher* launcher) {
  MutexLock lock(&mu_);
  launchers_.erase(group_id);
  if (launcher == nullptr) return;
  launchers_[group_id] = launcher;
  const auto pids = pids_.find(group_id);
  if (pids == pids_.end()) return;
  for (const int pid : pids->second) launcher->AddRankPid(pid);
}

}  // namespace tessera::coordinator
