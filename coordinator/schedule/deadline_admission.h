// Which requests can still be answered in time. A service that starts what it cannot end in time
// has no time for anybody: such a request is refused at once, dropped while it waits, or, under
// overload, not begun beside those that run.
//
// Overload is a state of the group: for a while after a request was late or turned away for its
// deadline, while no tenant but the one that runs is active, and under first come, first served.
// Decides and learns; the scheduler refuses and drops. Pure (time is an argument), not thread-safe.
//
//   DeadlineAdmission admission(limits, &cache, &estimator);
//   TESSERA_RETURN_IF_ERROR(admission.CheckTurn(deadline, ahead, now));   // a request arrives
//   deadlines.Set(&request, admission.CheckAt(request, load));
//   if (admission.IsTooLate(request, load, now)) ...                      // drop it
//   if (!admission.MayBegin(request, load, now)) ...                      // later, perhaps
//   admission.Begin(&request, cached, load, now);
#ifndef TESSERA_COORDINATOR_SCHEDULE_DEADLINE_ADMISSION_H_
#define TESSERA_COORDINATOR_SCHEDULE_DEADLINE_ADMISSION_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/schedule/kv_cache_manager.h"
#include "coordinator/schedule/overload_estimator.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/sequence.h"

namespace tessera::coordinator {

class DeadlineAdmission {
 public:
  DeadlineAdmission(const SchedulerLimits& limits, const KvCacheManager* cache,
                    OverloadEstimator* estimator)
      : policy_(limits.policy), cache_(cache), estimator_(estimator) {}

  // ---- At the start of a step

  // What has ended since the last call took until now.
  void LearnEnded(const ServingLoad& load, absl::Time now);
  void UpdateOverload(bool other_tenant_active, absl::Time now);

  // ---- Decisions

  // RESOURCE_EXHAUSTED with RetryInfo when those of its tenant that wait ahead of it take longer to
  // begin than its deadline leaves. Better told at once than after all its time in the queue.
  absl::Status CheckTurn(absl::Time deadline, int ahead, absl::Time now);
  // When to look at its deadline next: a request that has not run yet is too late from then on; one
  // that has, at its deadline.
  absl::Time CheckAt(const RequestState& request, const ServingLoad& load) const;
  bool IsTooLate(const RequestState& request, const ServingLoad& load, absl::Time now) const;
  // Whether it and those that run can all be expected to end in time, if it begins now. Always,
  // unless the group is overloaded.
  bool MayBegin(const RequestState& request, const ServingLoad& load, absl::Time now);

  // ---- What happened

  // It begins, with so many tokens of its prompt in the cache; it is still counted as waiting.
  void Begin(RequestState* request, int cached, const ServingLoad& load, absl::Time now);
  // One that waited was dropped.
  void WasTooLate(absl::Time now) { last_late_ = now; }
  // One was dropped, whether it waited or ran.
  void LearnDropped(const RequestState& request, absl::Time now);
  // A choice has ended by itself; at what time the next LearnEnded says.
  void Ended(const Sequence& choice);

 private:
  struct EndedChoice {
    absl::Time begun_at;
    double expected_micros = 0;
  };

  static double ExpectedMicros(const RequestState& request, int emitted) {
    return request.expected_prompt_micros + emitted * request.expected_token_micros;
  }

  const SchedulingPolicy policy_;
  const KvCacheManager* const cache_;
  OverloadEstimator* const estimator_;
  std::vector<EndedChoice> ended_;                // since the last LearnEnded
  absl::Time last_begun_ = absl::InfinitePast();  // others have waited ever since
  double begin_interval_micros_ = 0;              // from one to the next while others wait, learned
  absl::Time last_late_ = absl::InfinitePast();
  double itl_budget_micros_ = -1;  // of this step; negative: not computed yet
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_DEADLINE_ADMISSION_H_
