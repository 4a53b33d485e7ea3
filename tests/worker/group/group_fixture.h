// A real worker group under test: a ClusterService in this process, and mpirun with tessera-worker
// on a tiny checkpoint.
#ifndef TESSERA_TESTS_WORKER_GROUP_GROUP_FIXTURE_H_
#define TESSERA_TESTS_WORKER_GROUP_GROUP_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "coordinator/group/cluster_service.h"
#include "coordinator/group/launcher.h"
#include "coordinator/plan/shard_planner.h"
#include "tests/coordinator/group/recording_observer.h"

namespace tessera::worker {

inline const char* const kTinyModel = TESSERA_SOURCE_DIR "/tests/golden/tiny_models/llama";
inline const char* const kWorkerProgram = TESSERA_BINARY_DIR "/bin/tessera-worker";

// Processes that run now, of those given: zombies do not count.
std::vector<int> StillRunning(const std::vector<int>& pids);
// Segments in /dev/shm of the job of this mpirun.
std::vector<std::string> SegmentsOf(int mpirun_pid);

class GroupFixture : public ::testing::Test {
 protected:
  void Listen();
  coordinator::LaunchOptions Options(int world_size) const;
  void Launch(const coordinator::LaunchOptions& options);

  // Launches a group of the layout and waits until every rank serves.
  void StartGroup(int tensor_parallel, int pipeline_parallel);

  // The ranks' pids as reported, world rank 0 first; mpirun last.
  std::vector<int> Pids() const;
  int MpirunPid() const { return job_->pid(); }
  std::vector<v1::RankReport> ServingReports() const;  // the latest of each rank, in order

  // The group is lost once, and soon nothing of it is left.
  void ExpectGone(const std::vector<int>& pids);

  // Runs one step and returns its result.
  v1::StepResult RunStep(const v1::StepPlan& step);

  std::string Output() const;

  coordinator::Layout layout_;
  std::shared_ptr<coordinator::RecordingObserver> observer_;
  std::unique_ptr<coordinator::ClusterService> service_;
  std::unique_ptr<coordinator::Launcher> job_;

 private:
  mutable absl::Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_GROUP_GROUP_FIXTURE_H_
