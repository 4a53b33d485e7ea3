// Processes of a job on this host, known by pid and start time: a pid alone may be handed to
// another process once its owner is gone.
//
// Threads: guarded by its owner.
#ifndef TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_
#define TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_

#include <map>
#include <string>

namespace tessera::coordinator {

class RankProcesses {
 public:
  // Remembers the process with this pid, a descendant of `ancestor`. Any other is ignored: pids
  // come from peers, and what is remembered is going to be killed.
  void Add(int pid, int ancestor);
  // Whether one of them has ended, reaped by its parent or not.
  bool AnyGone() const;
  // SIGKILL to those that are still the processes remembered.
  void Kill() const;

 private:
  std::map<int, std::string> start_times_;  // by pid
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_
