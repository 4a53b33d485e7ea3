// Which tokens the group computes next. The scheduler decides and never executes: no clock, no I/O,
// no threads. It owns every request's truth (prompt ids, emitted ids, KV block table); workers hold
// nothing that cannot be rebuilt by replaying prompt plus emitted tokens.
//
//   scheduler.Add(request, now);
//   v1::StepPlan plan;  // used again for every step: then nothing is allocated
//   while (scheduler.Schedule(now, &plan)) ...  // false: nothing to do now
//   ... the group executes it ...
//   status = scheduler.Commit(result, &emissions);
//
// It keeps the requests and calls the parts, each a pure decision with a header of its own:
//
//   sequence_table.h      who waits and who runs (running slots, tenants' turns)
//   kv_cache_manager.h    which blocks a sequence holds, finds, and leaves to be found
//   preemption_policy.h   who is preempted for whom
//   deadline_admission.h  what can still be answered in time, on overload_estimator.h
//   batch_builder.h       what goes into the next step
//
// README.md of this folder says in which order they decide.
#ifndef TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
#define TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/schedule/request.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct SchedulerStats {
  int running = 0;
  int waiting = 0;
  int blocks_total = 0;
  int blocks_free = 0;
  int64_t preemptions = 0;
  bool out_of_blocks = false;  // the last step had slots left for waiting requests, but no blocks
  int blocks_cached = 0;       // of the free ones: hold a findable prefix
  int64_t steps = 0;           // committed
  int64_t tokens_computed = 0;
  int64_t prefix_queries = 0;  // prompt tokens looked up
  int64_t prefix_hits = 0;     // of those, found
  int64_t compute_micros = 0;  // of the committed steps, as the leader reports them
  int64_t stall_micros = 0;
  int64_t waiting_tokens = 0;  // of waiting requests, none computed
  // What a step takes, as learned: with one decode, for each more, and for each prompt token. 0:
  // not known yet.
  double step_micros = 0;
  double decode_micros = 0;
  double prompt_token_micros = 0;
};

class ActiveTenants;
class BatchBuilder;
class DeadlineAdmission;
class Deadlines;
class KvCacheManager;
class OverloadEstimator;
class PreemptionPolicy;
class SequenceTable;
class StepCost;
class StepTimes;
struct RequestState;
struct Sequence;
struct ServingLoad;
struct Step;

class Scheduler {
 public:
  // Limits below their minimum are the caller's bug and abort.
  explicit Scheduler(const SchedulerLimits& limits);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // RESOURCE_EXHAUSTED when the queue is full, or so long that the request's deadline would pass
  // before its turn (by arrival, and as far as is known); INVALID_ARGUMENT when the prompt plus one
  // token does not fit max_model_len or can never fit the KV blocks (names prompt and the limit),
  // for an empty prompt and for max_tokens below 0; ALREADY_EXISTS for an id that is live. A
  // request that would outgrow max_model_len or all KV blocks together is accepted and ends there
  // with kLength.
  absl::Status Add(ScheduledRequest request, absl::Time now);

  // Writes the next step over `plan`, which nobody else may have changed since it was passed last;
  // a new one may be passed at any time. False, with `plan` unspecified, when there is nothing to
  // do or the steps in flight are the most allowed. Requests past their deadline are finished
  // first, and so are waiting ones that cannot be served in time as far as is known (what their
  // prompt and an output of the usual length take beside those that run; while others wait, by as
  // much more as requests have been late lately); see TakeExpired. For a while after that has
  // happened (to the only tenant), one begins only if it and those that run can all be expected to
  // end in time.
  bool Schedule(absl::Time now, v1::StepPlan* plan);
  // Writes a plan of its own; nullopt for false.
  std::optional<v1::StepPlan> Schedule(absl::Time now);

  // Requests that a Schedule call dropped because of their deadline (kDeadline). Clears the list.
  std::vector<Emission> TakeExpired();

  // The result of the oldest or any other step in flight. Tokens of requests cancelled meanwhile
  // are dropped. INTERNAL when the result does not match its plan (a lying group): then nothing has
  // changed, and the caller ends the group and calls TakeUnfinished. Replaces what `emissions` held.
  absl::Status Commit(const v1::StepResult& result, std::vector<Emission>* emissions);
  absl::StatusOr<std::vector<Emission>> Commit(const v1::StepResult& result);
  absl::StatusOr<std::vector<Emission>> Commit(v1::StepResult&&) = delete;  // has the tokens

  // Forgets one choice (a stop string was found): the others go on. False when it is not live.
  bool FinishChoice(int64_t request_id, int choice);

  // Forgets the request; its blocks are free at once, or, when a step in flight still writes them,
  // with that step's Commit. False when it is not live.
  bool Finish(int64_t request_id);

  // The group is gone: every live request as another group's scheduler goes on with it, in the
  // order of arrival. All of them are forgotten here, as are the steps in flight and what the
  // prefix cache held.
  // `may_be_theirs`: one of those that were being computed may be why it is gone.
  std::vector<ScheduledRequest> TakeUnfinished(bool may_be_theirs = true);

  bool idle() const;  // no live request
  // What the step that was planned last can be expected to take, alone; zero: not known.
  absl::Duration expected_step() const;
  SchedulerStats stats() const;

 private:
  // Requests come and go.
  absl::Status CheckRequest(const ScheduledRequest& request) const;
  void Enqueue(Sequence* sequence);
  void EnqueueHeld(RequestState* request);
  void FinishSequence(Sequence* sequence);
  void FinishRequest(RequestState* request);
  void DropLate(RequestState* request);
  void DropExpired(absl::Time now);
  void ForgetFinished();
  void Acquit(RequestState* suspect);
  ServingLoad Load() const;

  // What the group answers (commit.cc).
  absl::Status CheckResult(const Step& step, const v1::StepResult& result) const;
  void LearnStep(const Step& step, int64_t compute_micros);
  void CommitChunk(const Step& step, size_t index, const v1::SampledToken* token,
                   const v1::ChunkPromptLogprobs* prompt_logprobs,
                   std::vector<Emission>* emissions);
  void Append(Sequence* sequence, const v1::SampledToken& token, Emission* emission);

  std::unique_ptr<Step> NewStep();

  const SchedulerLimits limits_;
  const int max_len_;  // tokens of one sequence: max_model_len, or what all KV blocks hold

  // The parts. Each borrows from those before it.
  std::unique_ptr<KvCacheManager> cache_;
  std::unique_ptr<SequenceTable> table_;
  std::unique_ptr<StepCost> cost_;
  std::unique_ptr<StepTimes> step_times_;
  std::unique_ptr<OverloadEstimator> estimator_;
  std::unique_ptr<DeadlineAdmission> admission_;
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<PreemptionPolicy> preemption_;
  std::unique_ptr<ActiveTenants> active_tenants_;
  std::unique_ptr<BatchBuilder> builder_;

  // Requests.
  std::unordered_map<int64_t, std::unique_ptr<RequestState>> live_;  // by request id
  std::vector<std::unique_ptr<RequestState>> finished_;  // until no step in flight has them
  std::vector<Emission> expired_;
  int suspects_ = 0;  // of the live ones
  int64_t next_arrival_ = 1;
  int64_t next_replay_ = -(int64_t{1} << 40);  // below every next_arrival_

  // Steps.
  std::deque<std::unique_ptr<Step>> in_flight_;     // oldest first
  std::vector<std::unique_ptr<Step>> spare_steps_;  // empty ones, for their memory
  const v1::StepPlan* newest_plan_ = nullptr;       // the caller's; only compared
  int64_t next_step_id_ = 1;
  std::vector<Sequence*> filled_;  // scratch of Commit: those that have a full block more
  SchedulerStats totals_;          // what only ever grows
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
