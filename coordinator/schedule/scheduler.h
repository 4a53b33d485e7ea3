// Which tokens the group computes next. The scheduler decides and never executes: no clock, no I/O,
// no threads. It owns every request's truth (prompt ids, emitted ids, KV block table); workers hold
// nothing that cannot be rebuilt by replaying prompt plus emitted tokens.
//
//   scheduler.Add(request, now);
//   std::optional<v1::StepPlan> plan = scheduler.Schedule(now);   // nullopt: nothing to do now
//   ... the group executes it ...
//   std::vector<Emission> out = scheduler.Commit(result);
//
// One step mixes decodes (first) and prompt chunks (what the token budget leaves), in admission
// order. When KV blocks run out the youngest running request is preempted: its blocks are freed and
// it is recomputed later; nothing already emitted is lost. With several steps in flight the decodes
// are dealt out evenly over them, since a sequence is in one step at a time.
#ifndef TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
#define TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/schedule/block_pool.h"
#include "coordinator/schedule/tenant_queue.h"
#include "coordinator/schedule/token_constraint.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct SchedulerLimits {
  int block_tokens = 16;
  int num_blocks = 0;
  int max_tokens_per_step = 512;
  int max_sequences_per_step = 64;  // running at once
  int max_model_len = 0;            // prompt + generated; 0 = what the KV blocks hold
  int max_prefill_chunk = 512;      // tokens of one prompt per step
  int max_queue = 1024;             // waiting requests; one more is refused
  int max_steps_in_flight = 1;      // over disjoint sequences; the pipeline's stages
  // One step ahead: decodes whose last token is still being drawn go out as soon as their step is the
  // oldest in flight (SequenceChunk.last_token_from_step), one step more than max_steps_in_flight.
  // Not while a running sequence needs its last token here first (a constraint, a bad word of
  // several tokens).
  bool lookahead = true;
  bool prefix_caching = true;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  std::map<std::string, double> tenant_weights = {};  // tenants not named: 1
  // Prompt chunks beside decodes may make a step this many times as long as the decodes alone take
  // (learned: step_cost.h). A tenant that has had less than its share may fill the whole budget.
  // 0: no bound but the token budget.
  double prefill_stretch = 2.0;
  int vocab_size = 0;               // Commit refuses token ids from here on; 0 = unchecked
};

// What the scheduler needs of a request. Checked by the caller (api) except where Add says so.
struct ScheduledRequest {
  int64_t id = 0;                        // unique among the live ones
  std::vector<int32_t> prompt_ids = {};  // at least one
  int max_tokens = 1;                    // at least 1; 0: only the prompt is computed (score)
  v1::SamplingParams sampling = {};      // its seed is replaced by the choice's
  std::vector<uint64_t> seeds = {};      // one per choice; empty: one choice, sampling.seed
  std::vector<int32_t> stop_ids = {};    // sampling one of these finishes the choice
  int min_tokens = 0;                    // stop_ids are banned for the first so many tokens
  std::vector<std::vector<int32_t>> bad_words = {};  // token sequences that are never completed
  std::shared_ptr<const TokenConstraint> constraint = nullptr;  // cloned for each choice
  // Log probabilities of prompt tokens: those at positions >= targets_from (at least 1), with
  // target_logprobs alternatives each. They come with Emissions, in order. -1: none. Such a prompt
  // is computed whole from targets_from - 1 on, whatever the prefix cache holds.
  int targets_from = -1;
  int target_logprobs = 0;
  std::string tenant = {};
  int32_t priority = 0;  // lower first
  absl::Time deadline = absl::InfiniteFuture();
  bool return_logits = false;
};

enum class FinishCause { kNone, kStopToken, kLength, kCancelled, kDeadline, kAborted };

// What Commit, Schedule or Cancel tell of a request, or of one choice of it. A request whose choices
// have all finished is forgotten.
struct Emission {
  int64_t request_id = 0;
  // One token, or none (targets alone, deadline, abort). The stop token itself is emitted, with
  // kStopToken.
  std::optional<v1::SampledToken> token;
  FinishCause finished = FinishCause::kNone;
  int choice = 0;  // of token and finished; kDeadline and kAborted end all choices in one emission
  std::vector<v1::TargetLogprob> targets = {};  // of the prompt, in order, as they become known
  int cached_tokens = 0;  // with a choice's first token: of the prompt, found in the prefix cache
};

struct SchedulerStats {
  int running = 0;
  int waiting = 0;
  int blocks_total = 0;
  int blocks_free = 0;
  int64_t preemptions = 0;
  bool out_of_blocks = false;  // the last step had seats left for waiting requests, but no blocks
  int blocks_cached = 0;       // of the free ones: hold a findable prefix
  int64_t steps = 0;           // committed
  int64_t tokens_computed = 0;
  int64_t prefix_queries = 0;  // prompt tokens looked up
  int64_t prefix_hits = 0;     // of those, found
  int64_t compute_micros = 0;  // of the committed steps, as the leader reports them
  int64_t stall_micros = 0;
};

class Scheduler {
 public:
  // Limits below their minimum are the caller's bug and abort.
  explicit Scheduler(const SchedulerLimits& limits);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // RESOURCE_EXHAUSTED when the queue is full; INVALID_ARGUMENT when the prompt plus one token does
  // not fit max_model_len or can never fit the KV blocks (names prompt and the limit), for an empty
  // prompt and for max_tokens below 0; ALREADY_EXISTS for an id that is live. A request that would
  // outgrow max_model_len or all KV blocks together is accepted and ends there with kLength.
  absl::Status Add(ScheduledRequest request, absl::Time now);

  // The next step, or nullopt when there is nothing to do or the steps in flight are the most
  // allowed. Requests past their deadline are finished first, and so are waiting ones that cannot be
  // served in time as far as is known (their prompt alone takes longer); see TakeExpired.
  std::optional<v1::StepPlan> Schedule(absl::Time now);

  // Requests that a Schedule call dropped because of their deadline (kDeadline). Clears the list.
  std::vector<Emission> TakeExpired();

  // The result of the oldest or any other step in flight. Tokens of requests cancelled meanwhile
  // are dropped. INTERNAL when the result does not match its plan (a lying group): then nothing has
  // changed, and the caller ends the group and calls AbortAll.
  absl::StatusOr<std::vector<Emission>> Commit(const v1::StepResult& result);

  // The same for one choice (a stop string was found): the others go on. False when it is not live.
  bool FinishChoice(int64_t request_id, int choice);

  // Forgets the request; its blocks are free at once, or, when a step in flight still writes them,
  // with that step's Commit. False when it is not live.
  bool Finish(int64_t request_id);

  // The group is gone: every live request, as kAborted; all steps in flight are forgotten.
  std::vector<Emission> AbortAll();

  bool idle() const;  // no live request
  SchedulerStats stats() const;

 private:
  struct Sequence;
  struct Step;
  using SequencePtr = std::shared_ptr<Sequence>;
  // By arrival: preempted requests fall back into their old place, which is before every request
  // that has not run yet.
  using ByArrival = std::map<int64_t, SequencePtr>;

  int BlocksFor(int tokens) const;
  bool Reserve(const Sequence& wanting, int tokens, std::vector<int32_t>* table);
  Sequence* Victim(const Sequence& wanting) const;
  void Preempt(Sequence* sequence);
  void Retire(const SequencePtr& sequence);
  void DropExpired(absl::Time now);
  void PlanDecodes(Step* step);
  void PlanPrefills(Step* step);
  void AdmitAndPlan(Step* step);
  bool PlanChunk(const SequencePtr& sequence, Step* step);
  int UnallocatedPromise() const;
  Emission Append(const SequencePtr& sequence, const v1::SampledToken& token);

  const SchedulerLimits limits_;
  const int max_len_;  // tokens of one sequence: max_model_len, or what all KV blocks hold
  BlockPool pool_;
  std::map<int64_t, SequencePtr> live_;  // by request id
  ByArrival waiting_;                    // live ones are in exactly one of these two
  ByArrival running_;
  std::map<int64_t, std::unique_ptr<Step>> in_flight_;  // by step id
  std::vector<Emission> expired_;
  int64_t next_arrival_ = 0;
  int64_t next_step_id_ = 1;
  int64_t preemptions_ = 0;
  bool out_of_blocks_ = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
