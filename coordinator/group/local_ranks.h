// The processes of this host that are ranks of living groups, as their reports say; told to whoever
// launched them.
//
// Threads: every method may be called from any thread.
//
//   ranks.Add(report);               // from ReportRank
//   ranks.SetLauncher("group0.1", job.get());    // job->AddRankPid for those known, and for those to come
#ifndef TESSERA_COORDINATOR_GROUP_LOCAL_RANKS_H_
#define TESSERA_COORDINATOR_GROUP_LOCAL_RANKS_H_

#include <map>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "coordinator/group/launcher.h"
#include "proto/base/mutex.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// As the system names it; "localhost" when it does not.
std::string HostName();

class LocalRanks {
 public:
  explicit LocalRanks(std::string host = HostName()) : host_(std::move(host)) {}

  // Reports of other hosts, and those without a pid, are passed over.
  void Add(const v1::RankReport& report);
  void Forget(const std::string& group_id);  // the group has ended
  // Who is told of this group's; null: nobody. Borrowed until then.
  void SetLauncher(const std::string& group_id, Launcher* launcher);

 private:
  const std::string host_;
  Mutex mu_;
  std::map<std::string, Launcher*> launchers_ ABSL_GUARDED_BY(mu_);   // by group id
  std::map<std::string, std::set<int>> pids_ ABSL_GUARDED_BY(mu_);  // by group id
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_LOCAL_RANKS_H_
