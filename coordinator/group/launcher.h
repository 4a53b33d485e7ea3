// Starts a worker group as an mpirun job on behalf of this process, and watches over it.
//
// The job cannot outlive its Launcher, nor this process: when the process dies, the kernel kills
// mpirun, and every rank dies with the process that started it. Once a rank is gone the job has a
// second to end: Open MPI 4's mpirun sometimes locks up inside PMIx_server_finalize and would stay
// forever. Left-over shared-memory segments and session files of the job are removed when it ends,
// or by the next Launcher if this process was killed.
//
// Threads: one thread of the Launcher starts the job, reads its output and waits for it; the
// callbacks run there and must not block or destroy the Launcher. All methods may be called from
// any thread.
//
//   LaunchOptions options{.worker_program = "build/bin/tessera-worker", .world_size = 4, ...};
//   TESSERA_ASSIGN_OR_RETURN(auto job, Launcher::Start(options, print_line, on_exit));
//   job->Terminate(absl::Seconds(1));
#ifndef TESSERA_COORDINATOR_GROUP_LAUNCHER_H_
#define TESSERA_COORDINATOR_GROUP_LAUNCHER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tessera::coordinator {

struct LaunchOptions {
  std::string launcher_program = "mpirun";  // found through PATH
  std::vector<std::string> launcher_args;   // added to mpirun's, e.g. {"--hostfile", "hosts"}
  std::string worker_program;
  int world_size = 1;
  std::string coordinator;      // HOST:PORT of the ClusterService
  std::string group_id;         // what the group calls itself; empty: a name of its own
  std::string model;            // path as the workers see it
  std::string load_format;      // empty: the worker's default
  int threads_per_rank = 0;     // 0: the worker's default
  int health_port = 0;          // base; 0: chosen by the system
  std::vector<std::string> worker_args;  // added to the worker's
  int cores = 0;                // of this host; 0: asked from the system
};

// That this process may use.
int CoresOfThisHost();

// The whole command line, argv[0] included. Pure but for asking the system's user and cores.
std::vector<std::string> LaunchCommand(const LaunchOptions& options,
                                       const std::string& session_dir);

class Launcher {
 public:
  using LineCallback = std::function<void(const std::string& line)>;
  // OK: exit status 0. Otherwise one line: "mpirun not found ...", "mpirun: exit status 1: <what
  // the output says of it (job_output.h)>", "mpirun: killed by signal 9 (Killed)". Called once.
  using ExitCallback = std::function<void(absl::Status how)>;

  // NOT_FOUND when the program cannot be started; the callbacks are then never called.
  static absl::StatusOr<std::unique_ptr<Launcher>> Start(const LaunchOptions& options,
                                                         LineCallback on_line,
                                                         ExitCallback on_exit);
  // Terminates what still runs.
  virtual ~Launcher() = default;

  virtual int pid() const = 0;

  // A rank of the job on this very host, as it reported itself. The job ends when it does, and it
  // when the job does.
  virtual void AddRankPid(int pid) = 0;

  // Asks the job to end (SIGTERM), kills what is left after `grace`, and returns when it is gone.
  virtual void Terminate(absl::Duration grace) = 0;

  // Blocks until the job has ended and its ExitCallback has returned; how it ended.
  virtual absl::Status Wait() = 0;

  virtual bool running() const = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_LAUNCHER_H_
