// The engine's single-threaded half: the scheduler of its group, and the requests that the group
// computes. No locks, no waiting; used on the engine's thread only.
//
//   driver.Start(served, transport);
//   driver.Add(std::move(request), now);
//   driver.SendPlans(absl::Now());
//   status = driver.Commit(result, now);  // INTERNAL: the group lies and must go
#ifndef TESSERA_COORDINATOR_ENGINE_STEP_DRIVER_H_
#define TESSERA_COORDINATOR_ENGINE_STEP_DRIVER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/engine/admit.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/request_record.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/group/failure_detector.h"
#include "coordinator/group/group.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

class StepDriver {
 public:
  // Both outlive it.
  StepDriver(const EngineOptions& options, FailureDetector* detector)
      : options_(options), detector_(detector) {}

  void Start(const ServedModel& served, std::shared_ptr<GroupTransport> transport);
  // The group is gone: every live request is left unfinished, as another group goes on with it.
  // `may_be_theirs`: one of them may be why.
  void Stop(bool may_be_theirs);

  void Add(AdmittedRequest request, absl::Time now);
  // Blocks are free at once, or with the step in flight that still writes them. The sink hears
  // nothing more.
  void Cancel(int64_t id, absl::Time now);
  // The same, and the sink hears why.
  void Fail(int64_t id, const absl::Status& why, absl::Time now);
  void FailAll(const absl::Status& why);

  // Sends what can be sent now and fails the requests whose deadline has passed.
  void SendPlans(absl::Time now);
  absl::Status Commit(const v1::StepResult& result, absl::Time now);

  absl::Time next_deadline() const;  // InfiniteFuture when nobody has one
  SchedulerStats stats() const;      // zeros without a group
  bool has_group() const { return scheduler_ != nullptr; }
  // Since the last call: the requests that ended, and those that a lost group was computing, whose
  // clients have not heard of it.
  std::vector<int64_t> TakeEnded() { return std::exchange(ended_, {}); }
  std::vector<AdmittedRequest> TakeUnfinished() { return std::exchange(unfinished_, {}); }

 private:
  using Live = std::unordered_map<int64_t, RequestRecord>;

  // `sent`: the step that it comes from.
  void Deliver(const Emission& emission, absl::Time sent, absl::Time now);
  void DeliverOutput(Live::iterator entry, const Emission& emission, absl::Time now);
  void FailExpired(absl::Time now);
  void Forget(Live::iterator entry);
  absl::Time TakeSent(int64_t step_id);

  const EngineOptions& options_;
  FailureDetector* const detector_;  // hears of steps that are sent and come back
  std::unique_ptr<Scheduler> scheduler_;                // while a group serves
  std::shared_ptr<GroupTransport> transport_;           // likewise
  Live live_;                                           // by id
  std::set<std::pair<absl::Time, int64_t>> deadlines_;  // of those that have one
  std::deque<std::pair<int64_t, absl::Time>> sent_;     // steps under way: id, when
  v1::StepPlan plan_;                // of the last step; used again for its memory
  std::vector<Emission> emissions_;  // likewise
  std::vector<int64_t> ended_;
  std::vector<AdmittedRequest> unfinished_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_STEP_DRIVER_H_
