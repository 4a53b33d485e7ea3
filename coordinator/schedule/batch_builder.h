// What goes into the next step: decodes first, then prompts under way, then those that wait. A
// waiting sequence is admitted here, when its turn has come and slots, blocks and its deadline
// allow it.
//
//   - Tokens: the token budget; of prompts, no more than keeps all stages busy (prompt_budget.h),
//   and
//     of tenants that are not in deficit no more than the running streams bear.
//   - With several steps in flight the decodes are dealt out evenly over them.
//   - Tenants in deficit go first. For the prompt of one, tenants above their share of the slots
//     leave their decodes out of a step; never twice in a row: their streams go on.
//   - A request that may have killed a group is computed beside none but those that have had a token
//     here, until it has one: should this group die as well, it is known why.
//   - A beneficiary of a preemption goes before all others that wait.
//
// Writes the step and its plan through AppendChunk, changes the sequences in it, starts sequences
// in the table and has others preempted; borrows all of that. Pure (time is an argument), not
// thread-safe.
//
//   BatchBuilder builder(limits, max_len, {.cache = &cache, ...}, drop);
//   builder.Build({.now = now, .async = true, .oldest_step = 17}, &step, &earlier);
//   if (step.owners.empty()) ...                       // nothing to do now
#ifndef TESSERA_COORDINATOR_SCHEDULE_BATCH_BUILDER_H_
#define TESSERA_COORDINATOR_SCHEDULE_BATCH_BUILDER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/schedule/active_tenants.h"
#include "coordinator/schedule/deadline_admission.h"
#include "coordinator/schedule/kv_cache_manager.h"
#include "coordinator/schedule/overload_estimator.h"
#include "coordinator/schedule/preemption_policy.h"
#include "coordinator/schedule/scheduler_limits.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/sequence_table.h"
#include "coordinator/schedule/slot_shares.h"
#include "coordinator/schedule/step.h"
#include "coordinator/schedule/step_cost.h"

namespace tessera::coordinator {

class BatchBuilder {
 public:
  struct Parts {
    KvCacheManager* cache = nullptr;
    SequenceTable* table = nullptr;
    PreemptionPolicy* preemption = nullptr;
    DeadlineAdmission* admission = nullptr;
    OverloadEstimator* estimator = nullptr;
    const StepCost* cost = nullptr;
    const ActiveTenants* tenants = nullptr;
  };

  struct Options {
    absl::Time now;
    bool async = false;       // sequences may be in an earlier step that is still in flight
    int64_t oldest_step = 0;  // in flight; 0: none
    bool measured = false;    // some step's time is known: costs can be learned
    bool suspects = false;    // some live request may have been the end of a group
  };

  // `drop_late` finishes a waiting request that is too late for its deadline: it has left the table
  // when the call returns.
  BatchBuilder(const SchedulerLimits& limits, int max_len, const Parts& parts,
               std::function<void(RequestState*)> drop_late);

  // Fills the empty `step`, whose id is set, and the plan. What `earlier` holds of an earlier plan
  // is used again.
  void Build(const Options& options, Step* step, EarlierPlan* earlier);

  // The last step left decodes out for the prompt of a tenant in deficit.
  bool stepped_aside() const { return stepped_aside_; }
  // The last step had slots left for waiting sequences, but no blocks.
  bool out_of_blocks() const { return out_of_blocks_; }

 private:
  struct Draft;

  ServingLoad Load() const { return {table_->running(), table_->waiting()}; }

  // Decodes.
  bool StepsAside(const SlotShares& shares);
  bool CanDecode(const Sequence& sequence, const Draft& draft) const;
  void AddDecodes(Draft* draft);

  // Prompts under way.
  void AddPrompts(Draft* draft);
  void AddPromptsUnderWay(const SlotShares& shares, bool in_deficit, Draft* draft);
  bool CanPrefill(const Sequence& sequence, const Draft& draft) const;
  double PromptMicros(const SlotShares& shares, const Draft& draft) const;
  bool OtherThanPromptsActive(const SlotShares& shares, absl::Time now) const;
  int PromptTokensLeft() const;
  int Allowance(const Draft& draft, const Sequence& sequence) const;

  // Sequences that wait.
  bool AdmitBeneficiary(const SlotShares& shares, Draft* draft);
  void AdmitInDeficit(const SlotShares& shares, Draft* draft);
  void AdmitInTurn(const SlotShares& shares, Draft* draft);
  Sequence* NextInTurn(const SlotShares& shares);
  bool Admit(Sequence* sequence, bool in_deficit, Draft* draft);
  bool WouldMeetASuspect(const RequestState& request) const;

  // One chunk.
  bool AddChunk(Sequence* sequence, int most, Draft* draft);
  int GrowFor(Sequence* sequence, int count, Draft* draft);
  void Charge(Draft* draft);

  const SchedulerLimits limits_;
  const int max_len_;  // tokens of one sequence
  KvCacheManager* const cache_;
  SequenceTable* const table_;
  PreemptionPolicy* const preemption_;
  DeadlineAdmission* const admission_;
  OverloadEstimator* const estimator_;
  const StepCost* const cost_;
  const ActiveTenants* const tenants_;
  const std::function<void(RequestState*)> drop_late_;
  std::vector<Sequence*> candidates_;  // scratch: those that ran when the step was begun
  std::vector<Sequence*> prompts_;     // scratch: of those, prompts under way, in the order of rank
  bool stepped_aside_ = false;
  bool out_of_blocks_ = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_BATCH_BUILDER_H_
