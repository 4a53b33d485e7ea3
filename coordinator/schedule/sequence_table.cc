#include "coordinator/schedule/sequence_table.h"

#include <algorithm>
#include <optional>

namespace tessera::coordinator {

SequenceTable::SequenceTable(const TenantQueueOptions& tenants, int slots)
    : policy_(tenants.policy), slots_(slots), tenants_(tenants) {}

bool SequenceTable::RanksBefore(const Sequence& a, const Sequence& b) const {
  const int32_t priority_a = a.request->request.priority;
  const int32_t priority_b = b.request->request.priority;
  if (policy_ == SchedulingPolicy::kPriority && priority_a != priority_b) {
    return priority_a < priority_b;
  }
  return a.id < b.id;
}

// ---- changes of state

void SequenceTable::Enqueue(Sequence* sequence) { PushWaiting(sequence); }

void SequenceTable::Start(Sequence* sequence) {
  RequestState* request = sequence->request;
  tenants_.AddRunning(sequence->tenant, +1);  // first: a tenant without work loses its turn
  RemoveWaiting(sequence);
  const auto place = std::upper_bound(
      running_.begin(), running_.end(), sequence,
      [this](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); });
  running_.insert(place, sequence);
  sequence->state = Sequence::State::kRunning;
  needing_last_token_ += request->needs_last_token;
  running_requests_ += request->running++ == 0;
}

void SequenceTable::Requeue(Sequence* sequence) {
  PushWaiting(sequence);  // first: a tenant without work loses its turn
  RemoveRunning(sequence);
}

void SequenceTable::Drop(Sequence* sequence) {
  if (sequence->state == Sequence::State::kWaiting) RemoveWaiting(sequence);
  if (sequence->state == Sequence::State::kRunning) RemoveRunning(sequence);
}

void SequenceTable::MarkVictim(Sequence* sequence) {
  sequence->victim = true;
  victims_.push_back(sequence);
}

void SequenceTable::PushWaiting(Sequence* sequence) {
  sequence->state = Sequence::State::kWaiting;
  waiting_[sequence->id] = sequence;
  waiting_tokens_ += sequence->known();
  tenants_.Push({.arrival = sequence->id,
                 .tenant = sequence->tenant,
                 .priority = sequence->request->request.priority});
}

void SequenceTable::RemoveWaiting(Sequence* sequence) {
  tenants_.Erase(sequence->id);
  waiting_.erase(sequence->id);
  waiting_tokens_ -= sequence->known();
}

void SequenceTable::RemoveRunning(Sequence* sequence) {
  RequestState* request = sequence->request;
  const auto place = std::lower_bound(
      running_.begin(), running_.end(), sequence,
      [this](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); });
  running_.erase(place);
  if (sequence->victim) {
    victims_.erase(std::find(victims_.begin(), victims_.end(), sequence));
    sequence->victim = false;
  }
  tenants_.AddRunning(sequence->tenant, -1);
  needing_last_token_ -= request->needs_last_token;
  running_requests_ -= --request->running == 0;
}

// ---- those that wait

Sequence* SequenceTable::FindWaiting(int64_t arrival) const {
  const auto found = waiting_.find(arrival);
  return found == waiting_.end() ? nullptr : found->second;
}

Sequence* SequenceTable::Front() {
  const std::optional<int64_t> arrival = tenants_.Front();
  return arrival ? waiting_.at(*arrival) : nullptr;
}

Sequence* SequenceTable::FrontOf(int tenant) const {
  const std::optional<int64_t> arrival = tenants_.FrontOf(tenant);
  return arrival ? waiting_.at(*arrival) : nullptr;
}

}  // namespace tessera::coordinator
