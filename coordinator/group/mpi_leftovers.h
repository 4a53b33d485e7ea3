// What an Open MPI job that died hard may leave on this host: its session folder and, where a rank
// was killed while it started, its shared-memory segments.
//
// Threads: none of its own; one job is one object, used by the thread that runs the job.
//
//   TESSERA_ASSIGN_OR_RETURN(MpiLeftovers leftovers, MpiLeftovers::MakeSessionDir());
//   ... start mpirun with leftovers.session_dir() ...
//   leftovers.Remember(mpirun_pid);
//   ... wait for its end ...
//   leftovers.Remove(mpirun_pid);
#ifndef TESSERA_COORDINATOR_GROUP_MPI_LEFTOVERS_H_
#define TESSERA_COORDINATOR_GROUP_MPI_LEFTOVERS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace tessera::coordinator {

class MpiLeftovers {
 public:
  // A private folder for Open MPI's session files, under $TMPDIR or /tmp. What coordinators that
  // are dead have left is removed on the way.
  static absl::StatusOr<MpiLeftovers> MakeSessionDir();

  const std::string& session_dir() const { return session_dir_; }

  // Once mpirun runs: lets a later coordinator remove this job's segments should this one be killed.
  void Remember(int mpirun_pid) const;

  // After the job of that mpirun has ended.
  void Remove(int mpirun_pid) const;

 private:
  explicit MpiLeftovers(std::string session_dir) : session_dir_(std::move(session_dir)) {}

  std::string session_dir_;
};

// The id that Open MPI 4 gives the first job of the mpirun with this pid on this host: segments are
// named vader_segment.<host>.<user id>.<job id, hexadecimal>.<local rank>.
uint32_t OpenMpiJobId(const std::string& host, int mpirun_pid);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_MPI_LEFTOVERS_H_
