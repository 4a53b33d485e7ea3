// The engine loop's single-threaded half: the scheduler of the group that serves, and every live
// request with its sink. No locks, no waiting; used on the loop's thread only.
//
//   driver.Start(served, transport);
//   driver.Add(std::move(request));
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
#include "coordinator/engine/engine_loop.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/engine/request_output.h"
#include "coordinator/engine/request_times.h"
#include "coordinator/group/group.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

class StepDriver {
 public:
  explicit StepDriver(const EngineLoopOptions& options) : options_(options) {}  // outlive it

  void Start(const ServedModel& served, std::shared_ptr<GroupTransport> transport);
  // The group is gone: every live request fails with `why`.
  void Stop(const absl::Status& why);

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
  const std::shared_ptr<GroupTransport>& transport() const { return transport_; }
  // How many requests ended since the last call.
  int TakeEnded() { return std::exchange(ended_, 0); }

 private:
  struct LiveRequest {
    absl::Time deadline;
    std::shared_ptr<const ServedModel> model;  // owns the tokenizer of `output`
    std::shared_ptr<TokenSink> sink;
    RequestOutput output;
    RequestTimes times;
  };
  using Live = std::unordered_map<int64_t, LiveRequest>;

  // `sent`: the step that it comes from.
  void Deliver(const Emission& emission, absl::Time sent, absl::Time now);
  void DeliverOutput(Live::iterator entry, const Emission& emission, absl::Time now);
  void FailExpired(absl::Time now);
  void Count(const LiveRequest& request, const absl::Status& how, const std::string& reason,
             absl::Time now) const;
  void Forget(Live::iterator entry);
  absl::Time TakeSent(int64_t step_id);

  const EngineLoopOptions& options_;
  std::unique_ptr<Scheduler> scheduler_;                // while a group serves
  std::shared_ptr<GroupTransport> transport_;           // likewise
  Live live_;                                           // by id
  std::set<std::pair<absl::Time, int64_t>> deadlines_;  // of those that have one
  std::deque<std::pair<int64_t, absl::Time>> sent_;     // steps under way: id, when
  v1::StepPlan plan_;                // of the last step; used again for its memory
  std::vector<Emission> emissions_;  // likewise
  int ended_ = 0;
};

// What a client is told when its group dies under it. Names no path and no address.
absl::Status GroupLostError();

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_STEP_DRIVER_H_
