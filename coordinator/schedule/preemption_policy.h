// Who is preempted for whom, when blocks or running slots run out. A victim gives its blocks and
// its slot up and is computed anew later; nothing already emitted is lost.
//
//   - For a running sequence that needs a block: the last in rank of the tenant furthest above its
//     share of the slots; of all, when none is above. Within its own tenant, and among all, only
//     one that ranks behind it: so the first in rank always gets on, and all of them do in turn.
//   - For a waiting one of better priority, or of a tenant below its share: that one becomes the
//     beneficiary. What its victims leave is for it alone until it runs.
//
// Nobody is preempted while a step computes it. Since steps are sent ahead, a victim often is in
// one: then it is marked (SequenceTable::MarkVictim), planned no more, and preempted by the
// scheduler when its last step is back.
//
// Changes the victims, the table and the cache; borrows them. Pure, not thread-safe.
//
//   PreemptionPolicy preemption(&cache, &table);
//   preemption.MakeRoomForWaiting();                             // at the start of a step
//   if (!preemption.GrowOrPreempt(tokens, &sequence)) ...        // no block for it in this step
#ifndef TESSERA_COORDINATOR_SCHEDULE_PREEMPTION_POLICY_H_
#define TESSERA_COORDINATOR_SCHEDULE_PREEMPTION_POLICY_H_

#include <cstdint>
#include <optional>

#include "coordinator/schedule/kv_cache_manager.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/sequence_table.h"
#include "coordinator/schedule/slot_shares.h"

namespace tessera::coordinator {

class PreemptionPolicy {
 public:
  PreemptionPolicy(KvCacheManager* cache, SequenceTable* table) : cache_(cache), table_(table) {}

  // Preempts, or marks as victims, as many as a waiting one that may ask for it needs.
  void MakeRoomForWaiting();

  // Blocks for the first `tokens` tokens of a running sequence; others are preempted while there
  // are too few. False when there still are.
  bool GrowOrPreempt(int tokens, Sequence* wanting);

  // A running sequence that no step in flight holds: its blocks are free, and it waits again.
  void Preempt(Sequence* sequence);

  // The waiting one that others were preempted for; null when there is none.
  Sequence* beneficiary() const;
  // Says that a sequence waits no more.
  void StopsWaiting(const Sequence& sequence) {
    if (beneficiary_ == sequence.id) beneficiary_.reset();
  }

  int64_t preemptions() const { return preemptions_; }

 private:
  bool FreeBlocksFor(const Sequence& wanting);
  Sequence* VictimForRunning(const Sequence& wanting) const;
  Sequence* MayAskForRoom(const SlotShares& shares);
  Sequence* VictimForWaiting(const SlotShares& shares, const Sequence& wanting) const;
  bool Fits(const Sequence& waiting);
  void GiveUp(Sequence* victim);

  KvCacheManager* const cache_;
  SequenceTable* const table_;
  std::optional<int64_t> beneficiary_;  // arrival
  int64_t preemptions_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PREEMPTION_POLICY_H_
