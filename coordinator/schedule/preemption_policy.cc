#include "coordinator/schedule/preemption_policy.h"

namespace tessera::coordinator {

void PreemptionPolicy::Preempt(Sequence* sequence) {
  ++preemptions_;
  cache_->Release(sequence);
  sequence->computed = 0;
  sequence->sent = 0;
  sequence->newest_step = 0;  // its chunk in the plan of that step has blocks of others by now
  table_->Requeue(sequence);
  cache_->Unreserve(sequence);
}

void PreemptionPolicy::GiveUp(Sequence* victim) {
  if (victim->in_flight == 0) return Preempt(victim);
  table_->MarkVictim(victim);
}

Sequence* PreemptionPolicy::beneficiary() const {
  return beneficiary_ ? table_->FindWaiting(*beneficiary_) : nullptr;
}

// ---- blocks for one that runs

bool PreemptionPolicy::GrowOrPreempt(int tokens, Sequence* wanting) {
  if (cache_->BlocksFor(tokens) <= static_cast<int>(wanting->blocks.size())) return true;
  while (!cache_->Grow(tokens, wanting)) {
    if (!FreeBlocksFor(*wanting)) return false;
  }
  return true;
}

// Finds a victim for a running sequence. False when no blocks have become free by it.
bool PreemptionPolicy::FreeBlocksFor(const Sequence& wanting) {
  Sequence* victim = VictimForRunning(wanting);
  if (victim == nullptr) return false;
  if (victim->in_flight == 0) {
    Preempt(victim);
    return true;
  }
  // One at a time: its blocks may well be enough.
  if (table_->victims().empty()) table_->MarkVictim(victim);
  return false;
}

// Rather one that no step computes.
Sequence* PreemptionPolicy::VictimForRunning(const Sequence& wanting) const {
  const SlotShares shares(*table_);
  const std::optional<int> tenant = shares.MostAbove();
  const bool of_another = tenant && *tenant != wanting.tenant;
  Sequence* in_flight = nullptr;
  for (auto it = table_->running().rbegin(); it != table_->running().rend(); ++it) {
    Sequence* candidate = *it;
    if (!of_another && !table_->RanksBefore(wanting, *candidate)) break;
    if (candidate->victim || (tenant && candidate->tenant != *tenant)) continue;
    if (candidate->in_flight == 0) return candidate;
    if (in_flight == nullptr) in_flight = candidate;
  }
  return in_flight;
}

// ---- room for one that waits

void PreemptionPolicy::MakeRoomForWaiting() {
  if (table_->waiting() == 0) return;
  while (true) {
    const SlotShares shares(*table_);
    const Sequence* wanting = MayAskForRoom(shares);
    if (wanting == nullptr || Fits(*wanting)) return;
    Sequence* victim = VictimForWaiting(shares, *wanting);
    if (victim == nullptr) return;
    beneficiary_ = wanting->id;
    GiveUp(victim);
  }
}

// With the blocks of the victims, which are still to come back.
bool PreemptionPolicy::Fits(const Sequence& waiting) {
  if (!table_->HasFreeSlot()) return false;
  int blocks = cache_->spare_blocks();
  for (const Sequence* victim : table_->victims()) {
    blocks += static_cast<int>(victim->blocks.size()) + victim->reserved_blocks;
  }
  return cache_->BlocksFor(waiting.known()) <= blocks || cache_->BlocksNeeded(waiting) <= blocks;
}

Sequence* PreemptionPolicy::MayAskForRoom(const SlotShares& shares) {
  if (beneficiary_) return beneficiary();
  if (shares.several()) {
    for (const int tenant : shares.active()) {
      if (table_->tenants().waiting(tenant) > 0 && shares.below(tenant)) {
        return table_->FrontOf(tenant);
      }
    }
  }
  return table_->policy() == SchedulingPolicy::kPriority ? table_->Front() : nullptr;
}

// By priority: the last in rank of a worse one, of the same tenant or of one above its share. For a
// tenant below its share: the last in rank of the tenant furthest above its own.
Sequence* PreemptionPolicy::VictimForWaiting(const SlotShares& shares,
                                             const Sequence& wanting) const {
  const std::optional<int> most = shares.MostAbove();
  for (auto it = table_->running().rbegin(); it != table_->running().rend(); ++it) {
    const Sequence& candidate = **it;
    if (candidate.victim) continue;
    const bool worse = table_->policy() == SchedulingPolicy::kPriority &&
                       candidate.request->request.priority > wanting.request->request.priority;
    if (worse && (candidate.tenant == wanting.tenant || shares.above(candidate.tenant) > 0)) {
      return *it;
    }
    if (most == candidate.tenant && shares.below(wanting.tenant)) return *it;
  }
  return nullptr;
}

}  // namespace tessera::coordinator
