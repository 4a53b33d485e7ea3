// A job under mpirun, watched from outside: what it prints, its processes, its shared memory.
#ifndef TESSERA_TESTS_WORKER_COMM_MPIRUN_JOB_H_
#define TESSERA_TESTS_WORKER_COMM_MPIRUN_JOB_H_

#include <sys/types.h>

#include <set>
#include <string>
#include <vector>

namespace tessera::worker {

class MpirunJob {
 public:
  // Starts `program` `mode` with `size` ranks; stdout and stderr come here.
  MpirunJob(const std::string& program, const std::string& mode, int size);
  ~MpirunJob();  // kills what is left

  MpirunJob(const MpirunJob&) = delete;
  MpirunJob& operator=(const MpirunJob&) = delete;

  // Reads until every rank has said that it is ready; false if ReadSome fails before.
  bool WaitUntilReady();

  // Reads what comes next; false at the end of the output, or when nothing comes for a minute.
  bool ReadSome();

  // Reads to the end and waits for mpirun's end; its exit status, or 128 + the signal it died of.
  int WaitForExit();

  pid_t mpirun() const { return mpirun_; }
  const std::vector<pid_t>& ranks() const { return ranks_; }  // in order of readiness
  const std::set<std::string>& segments() const { return segments_; }
  const std::string& output() const { return output_; }

  // What is still there of the job: "process 123", "/dev/shm/...". Dead but unreaped processes do
  // not count.
  std::vector<std::string> Remains() const;

 private:
  void TakeLine(const std::string& line);

  const size_t size_;
  const std::string session_directory_;  // of Open MPI; a killed mpirun leaves files there
  pid_t mpirun_ = -1;
  bool reaped_ = false;
  int output_fd_ = -1;
  size_t parsed_ = 0;  // bytes of output_ that have been taken apart
  std::string output_;
  std::vector<pid_t> ranks_;
  std::set<std::string> segments_;
};

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_COMM_MPIRUN_JOB_H_
