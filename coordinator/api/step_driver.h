// The engine loop's single-threaded half: the scheduler of the group that serves, and every live
// request with its sink. No locks, no waiting; used on the loop's thread only.
//
//   driver.Start(served, transport);
//   driver.Add(std::move(request));
//   driver.SendPlans(absl::Now());
//   status = driver.Commit(result);       // INTERNAL: the group lies and must go
#ifndef TESSERA_COORDINATOR_API_STEP_DRIVER_H_
#define TESSERA_COORDINATOR_API_STEP_DRIVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/api/engine_loop.h"
#include "coordinator/api/request_output.h"
#include "coordinator/group/group.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// A request that Submit let in.
struct AdmittedRequest {
  ScheduledRequest scheduled;
  std::shared_ptr<const ServedModel> model;  // owns the tokenizer of `output`
  std::shared_ptr<TokenSink> sink;
  RequestOutput output;
};

class StepDriver {
 public:
  // `max_queue` is how many requests may wait besides those that run.
  StepDriver(int max_queue, int max_steps_in_flight)
      : max_queue_(max_queue), max_steps_in_flight_(max_steps_in_flight) {}

  void Start(const ServedModel& served, std::shared_ptr<GroupTransport> transport);
  // The group is gone: every live request fails with `why`.
  void Stop(const absl::Status& why);

  void Add(AdmittedRequest request);
  // Blocks are free at once, or with the step in flight that still writes them. The sink hears
  // nothing more.
  void Cancel(int64_t id) { Forget(id); }
  void FailAll(const absl::Status& why);

  // Sends what can be sent now and fails the requests whose deadline has passed.
  void SendPlans(absl::Time now);
  absl::Status Commit(const v1::StepResult& result);

  absl::Time next_deadline() const;  // InfiniteFuture when nobody has one
  SchedulerStats stats() const;      // zeros without a group
  const std::shared_ptr<GroupTransport>& transport() const { return transport_; }
  // How many requests ended since the last call.
  int TakeEnded() { return std::exchange(ended_, 0); }

 private:
  void Deliver(const Emission& emission);
  void DeliverToken(AdmittedRequest& request, const Emission& emission);
  void Fail(int64_t id, const absl::Status& why);
  void Forget(int64_t id);

  const int max_queue_;
  const int max_steps_in_flight_;
  std::unique_ptr<Scheduler> scheduler_;       // while a group serves
  std::shared_ptr<GroupTransport> transport_;  // likewise
  std::map<int64_t, AdmittedRequest> live_;    // by id
  std::set<std::pair<absl::Time, int64_t>> deadlines_;
  int ended_ = 0;
};

// What a client is told when its group dies under it. Names no path and no address.
absl::Status GroupLostError();

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_STEP_DRIVER_H_
