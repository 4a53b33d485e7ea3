// Processes of a job on this host, known by pid and start time: a pid alone may be handed to another
// process once its owner is gone.
//
// Threads: guarded by its owner.
#ifndef TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_
#define TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_

#include <map>
#include <string>

namespace tessera::coordinator {

class RankProcesses {
 public:
  // Remembers the process with this pid; none, or one that is not this user's, is ignored.
  void Add(int pid);
  // Whether one of them has ended, reaped by its parent or not.
  bool AnyGone() const;
  // SIGKILL to those that are still the processes remembered.
  void Kill() const;

 private:
  std::map<int, std::string> start_times_;  // by pid
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_RANK_PROCESSES_H_
