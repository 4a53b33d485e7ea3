// Who waits and who runs. Every sequence that is neither held nor over stands here once, and its
// state changes here alone: waiting (in its tenant's queue) or running (in one of the running
// slots, `max_num_seqs`). A running one may be a victim: its slot counts as free already, and it is
// preempted when its last step is back.
//
// Borrows the sequences; owns the tenants' turns. Pure, not thread-safe: the scheduler's.
//
//   SequenceTable table({.policy = SchedulingPolicy::kFcfs}, /*slots=*/64);
//   table.Enqueue(&sequence);
//   if (table.HasFreeSlot()) table.Start(table.Front());
//   for (Sequence* sequence : table.running()) ...   // in the order of rank
//   table.Drop(&sequence);                           // finished
#ifndef TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_TABLE_H_
#define TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_TABLE_H_

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/tenant_queue.h"

namespace tessera::coordinator {

class SequenceTable {
 public:
  SequenceTable(const TenantQueueOptions& tenants, int slots);

  // ---- Changes of state

  void Enqueue(Sequence* sequence);     // held → waiting
  void Start(Sequence* sequence);       // waiting → running, whether or not a slot is free
  void Requeue(Sequence* sequence);     // running → waiting: a preempted one
  void Drop(Sequence* sequence);        // waiting or running → neither; state stays as it is
  void MarkVictim(Sequence* sequence);  // running

  // ---- Those that wait

  size_t waiting() const { return waiting_.size(); }
  // Their known tokens, added up.
  int64_t waiting_tokens() const { return waiting_tokens_; }
  // Null when it waits no more.
  Sequence* FindWaiting(int64_t arrival) const;
  // Whose turn it is; null when nobody waits. Moves the ring of tenants on (TenantQueue::Front).
  Sequence* Front();
  // The first of one tenant; null when it has none.
  Sequence* FrontOf(int tenant) const;

  // ---- Those that run

  // In the order of rank: the last ones are preempted first.
  const std::vector<Sequence*>& running() const { return running_; }
  const std::vector<Sequence*>& victims() const { return victims_; }
  int slots() const { return slots_; }
  bool HasFreeSlot() const {
    return static_cast<int>(running_.size()) - static_cast<int>(victims_.size()) < slots_;
  }
  int running_requests() const { return running_requests_; }
  // Whether one of them needs its last token here before its next can be sampled.
  bool AnyNeedsLastToken() const { return needing_last_token_ > 0; }

  // By priority where that is the policy, then by arrival.
  bool RanksBefore(const Sequence& a, const Sequence& b) const;
  SchedulingPolicy policy() const { return policy_; }

  TenantQueue& tenants() { return tenants_; }
  const TenantQueue& tenants() const { return tenants_; }

 private:
  void PushWaiting(Sequence* sequence);
  void RemoveWaiting(Sequence* sequence);
  void RemoveRunning(Sequence* sequence);

  const SchedulingPolicy policy_;
  const int slots_;
  TenantQueue tenants_;
  std::unordered_map<int64_t, Sequence*> waiting_;  // by arrival, as in tenants_
  int64_t waiting_tokens_ = 0;
  std::vector<Sequence*> running_;
  std::vector<Sequence*> victims_;
  int running_requests_ = 0;
  int needing_last_token_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_TABLE_H_
