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
// One step mixes decodes (first) and prompt chunks (what the token budget leaves, and no more than
// the running streams bear: prefill_stretch; with several stages no more than keeps all of them
// busy: pipeline_fill.h). Who is admitted next is up to TenantQueue. When KV
// blocks or seats run out somebody is preempted: its blocks are freed and it is recomputed later;
// nothing already emitted is lost. It is the last in rank (priority, then arrival) of the tenant
// that is furthest beyond its share of the seats, or of all. With several steps in flight the
// decodes are dealt out evenly over them.
#ifndef TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
#define TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/schedule/kv_pool.h"
#include "coordinator/schedule/pace.h"
#include "coordinator/schedule/step_cost.h"
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
  // One step ahead: decodes whose last token is still being drawn go out as soon as their step is
  // the oldest in flight (SequenceChunk.last_token_from_step), one step more than
  // max_steps_in_flight. Not while a running sequence needs its last token here first (a
  // constraint, a bad word of several tokens), nor while other tenants are about than the one that
  // runs: whoever comes then would wait for one step more.
  bool lookahead = true;
  bool prefix_caching = true;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  std::map<std::string, double> tenant_weights = {};  // tenants not named: 1
  // Prompt chunks beside decodes may make a step this many times as long as the decodes alone take
  // (learned: step_cost.h), or four times that while requests are turned away for their deadlines.
  // A tenant that has had less than its share may fill the whole budget. The others' prompts in
  // steps without decodes get on in pieces of some 20 ms while another tenant is about, who might
  // have to wait for them; never less than makes what every step costs a small part.
  // 0: no bound of either kind but the token budget.
  double prefill_stretch = 2.0;
  int vocab_size = 0;  // Commit refuses token ids from here on; 0 = unchecked
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

// What Commit, Schedule or Cancel tell of a request, or of one choice of it. A request whose
// choices have all finished is forgotten.
struct Emission {
  int64_t request_id = 0;
  // One token of the result passed to Commit, and valid as long as that is; or null (targets alone,
  // deadline, abort). The stop token itself is emitted, with kStopToken.
  const v1::SampledToken* token = nullptr;
  FinishCause finished = FinishCause::kNone;
  int choice = 0;  // of token and finished; kDeadline and kAborted end all choices in one emission
  std::vector<v1::PromptLogprob> targets = {};  // of the prompt, in order, as they become known
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

class Deadlines;
class SeatShares;
struct LiveRequest;
struct Sequence;
struct Step;

class Scheduler {
 public:
  // Limits below their minimum are the caller's bug and abort.
  explicit Scheduler(const SchedulerLimits& limits);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // RESOURCE_EXHAUSTED when the queue is full, or so long that the request's deadline would pass
  // before its turn (by arrival, and as far as is known); INVALID_ARGUMENT when the prompt plus one token does
  // not fit max_model_len or can never fit the KV blocks (names prompt and the limit), for an empty
  // prompt and for max_tokens below 0; ALREADY_EXISTS for an id that is live. A request that would
  // outgrow max_model_len or all KV blocks together is accepted and ends there with kLength.
  absl::Status Add(ScheduledRequest request, absl::Time now);

  // Writes the next step over `plan`, which nobody else may have changed since it was passed last;
  // a new one may be passed at any time. False, with `plan` unspecified, when there is nothing to do
  // or the steps in flight are the most allowed. Requests past their deadline are finished first,
  // and so are waiting ones that cannot be served in time as far as is known (what their prompt and
  // an output of the usual length take beside those that run; while others wait, by as much more as
  // requests have been late lately); see TakeExpired. For a while after that has happened (to the
  // only tenant), one begins only if it and those that run can all be expected to end in time.
  bool Schedule(absl::Time now, v1::StepPlan* plan);
  // The same with a plan of its own; nullopt for false.
  std::optional<v1::StepPlan> Schedule(absl::Time now);

  // Requests that a Schedule call dropped because of their deadline (kDeadline). Clears the list.
  std::vector<Emission> TakeExpired();

  // The result of the oldest or any other step in flight. Tokens of requests cancelled meanwhile
  // are dropped. INTERNAL when the result does not match its plan (a lying group): then nothing has
  // changed, and the caller ends the group and calls AbortAll. Replaces what `emissions` held.
  absl::Status Commit(const v1::StepResult& result, std::vector<Emission>* emissions);
  absl::StatusOr<std::vector<Emission>> Commit(const v1::StepResult& result);
  absl::StatusOr<std::vector<Emission>> Commit(v1::StepResult&&) = delete;  // has the tokens

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
  struct Draft;
  struct Backlog {  // of prompts under way
    int tokens = 0;
    double micros = 0;
  };
  struct Ended {  // a choice
    absl::Time begun_at;
    double expected_micros = 0;
  };

  // scheduler.cc: requests come and go.
  absl::Status CheckRequest(const ScheduledRequest& request) const;
  void Enqueue(Sequence* sequence);
  void ReleaseHeld(LiveRequest* live);
  void FinishSequence(Sequence* sequence);
  void FinishRequest(LiveRequest* live);
  void ForgetOver();

  // in_time.cc: what a request takes, and whether there is time for it.
  absl::Status CheckTurn(const ScheduledRequest& request, absl::Time now);
  void DropExpired(absl::Time now);
  absl::Time CheckAt(const LiveRequest& live) const;
  double MicrosForPrompt(const LiveRequest& live, int known) const;
  double MicrosForToken(int sequences) const;
  double MicrosForPressedStep(int sequences, double own_prompt) const;
  bool IsPressed(absl::Time now) const;
  double Stretch() const;
  double TypicalTokens(const LiveRequest& live) const;
  bool IsFullEnough() const;
  bool MayJoin(const LiveRequest& live, Draft* draft);
  double BearableMicros(absl::Time now);
  int SeatsBeside() const;
  double ExpectedMicros(const LiveRequest& live, int emitted) const;
  void Begin(LiveRequest* live, absl::Time now, int known);
  void LearnPace(absl::Time now);
  bool TooLate(const LiveRequest& live, absl::Time now) const;

  // plan.cc: what goes into the next step.
  std::unique_ptr<Step> NewStep();
  bool AnotherIsAbout(uint64_t salt, absl::Time now) const;
  bool HasCompany(absl::Time now) const;
  bool StepsAside(const SeatShares& shares);
  bool CanDecode(const Sequence& sequence, const Draft& draft) const;
  bool CanPrefill(const Sequence& sequence, const Draft& draft) const;
  void PlanDecodes(Draft* draft);
  void PlanPrompts(Draft* draft);
  void PlanPromptsUnderWay(const SeatShares& shares, bool owed, Draft* draft);
  double PrefillMicros(const SeatShares& shares, const Draft& draft) const;
  bool PromptsHaveCompany(const SeatShares& shares, absl::Time now) const;
  int PromptTokensLeft() const;
  int PromptBudget() const;
  int Allowance(const Draft& draft, const Sequence& sequence) const;
  bool AdmitFavoured(const SeatShares& shares, Draft* draft);
  void AdmitOwed(const SeatShares& shares, Draft* draft);
  void AdmitInTurn(const SeatShares& shares, Draft* draft);
  Sequence* NextInTurn(const SeatShares& shares);
  bool Admit(Sequence* sequence, bool owed, Draft* draft);
  bool PlanChunk(Sequence* sequence, int most, Draft* draft);
  void Charge(Draft* draft);

  // room.cc: seats and blocks, and who gives way for them.
  int BlocksFor(int tokens) const;
  int SeatsTaken() const;
  int BlocksToSpare() const;
  int BlocksNeeded(const Sequence& waiting);
  bool TakeKnownBlocks(Sequence* sequence, Draft* draft);
  bool ShareWithSibling(Sequence* sequence, Draft* draft);
  bool Adopt(Sequence* sequence);
  bool Reserve(Sequence* wanting, int tokens);
  bool FindVictim(const Sequence& wanting);
  Sequence* VictimForRunning(const Sequence& wanting) const;
  void MakeRoom();
  Sequence* WantsRoom(const SeatShares& shares);
  Sequence* VictimForWaiting(const SeatShares& shares, const Sequence& wanting) const;
  bool Fits(const Sequence& waiting);
  void GiveWay(Sequence* sequence);
  void Preempt(Sequence* sequence);
  void StartRunning(Sequence* sequence);
  void StopRunning(Sequence* sequence);
  void UpdatePromise(Sequence* sequence);
  bool RanksBefore(const Sequence& a, const Sequence& b) const;

  // commit.cc: what the group answers.
  absl::Status CheckResult(const Step& step, const v1::StepResult& result) const;
  void CommitChunk(const Step& step, size_t index, const v1::SampledToken* token,
                   const v1::ChunkPromptLogprobs* targets, std::vector<Emission>* emissions);
  static KvPool::Computed WhatIsComputed(const Sequence& sequence);
  void PublishFilled();
  void Learn(const Step& step, int64_t compute_micros);
  void LearnOutput(const Sequence& choice, bool whole);
  void Append(Sequence* sequence, const v1::SampledToken& token, Emission* emission);

  const SchedulerLimits limits_;
  const int max_len_;  // tokens of one sequence: max_model_len, or what all KV blocks hold
  KvPool pool_;
  TenantQueue queue_;
  StepCost cost_;
  Pace pace_;        // of requests, in what cost_ made expect of them
  StepNoise step_noise_;
  Backlog backlog_;  // after the last step planned
  std::vector<Ended> ended_now_;                  // since the last Schedule, which knows the time
  absl::Time last_begun_ = absl::InfinitePast();  // a request; others have waited ever since
  double begin_micros_ = 0;                       // from one to the next while others wait, learned
  absl::Time pressed_at_ = absl::InfinitePast();  // a request was turned away for its deadline
  bool pressed_ = false;          // as of the last Schedule
  double typical_prompt_ = 0;     // microseconds of steps, averaged over requests that began
  std::vector<double> bearable_;  // scratch of BearableMicros
  std::unordered_map<int64_t, std::unique_ptr<LiveRequest>> live_;  // by request id
  std::vector<std::unique_ptr<LiveRequest>> over_;  // forgotten when no step in flight has them
  std::unordered_map<int64_t, Sequence*> waiting_;                  // by arrival, as in queue_
  int64_t waiting_tokens_ = 0;                                      // known to those
  std::vector<Sequence*> running_;  // in the order of RanksBefore: the last ones give way first
  std::deque<std::unique_ptr<Step>> in_flight_;     // oldest first
  std::vector<std::unique_ptr<Step>> spare_steps_;  // empty ones, for their memory
  std::unique_ptr<Deadlines> deadlines_;
  std::vector<Emission> expired_;
  std::vector<Sequence*> ready_;    // scratch of one planning pass: running_ as it was
  std::vector<Sequence*> prompts_;  // likewise: prompts under way, in the order of running_
  std::vector<Sequence*> filled_;   // scratch of Commit: have a full block more
  std::vector<KvPool::Computed> published_;  // likewise: what those hold
  std::optional<int64_t> favoured_;  // arrival of the one that others gave way for
  std::vector<Sequence*> yielding_;  // running, about to be preempted
  std::deque<absl::Time> ended_;     // the last steps, one per stage, by estimate: see Learn
  int promised_ = 0;                 // sum over running sequences
  int needing_last_token_ = 0;       // running sequences
  int running_requests_ = 0;
  int64_t next_arrival_ = 1;
  int64_t next_step_id_ = 1;
  const v1::StepPlan* newest_plan_ = nullptr;  // the caller's; only compared
  bool out_of_blocks_ = false;
  double typical_output_ = 0;   // tokens of a choice, averaged over those that ended lately
  bool stepped_aside_ = false;  // in the last step planned, see StepsAside
  // The last two tenants to add a request, by salt, and when.
  std::pair<uint64_t, absl::Time> newest_tenants_[2] = {{0, absl::InfinitePast()},
                                                        {0, absl::InfinitePast()}};
  SchedulerStats totals_;  // what only ever grows
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_H_
