// Seats and KV blocks: who gets them, and who gives way for whom.
//
// Nobody is preempted while a step computes it. Since steps are sent ahead, a victim often is in
// one: then it is marked as yielding, planned no more, and preempted when its last step is back.
#include <algorithm>

#include "coordinator/schedule/plan_draft.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/seat_shares.h"
#include "coordinator/schedule/sequence.h"

namespace tessera::coordinator {
namespace {

// The first target to be told comes with the token before it, which is computed for that.
absl::Span<const int32_t> AdoptableTokens(const Sequence& sequence) {
  const absl::Span<const int32_t> tokens = sequence.tokens;
  const int target = sequence.next_target();
  return target > 0 ? tokens.first(static_cast<size_t>(target)) : tokens;
}

}  // namespace

int Scheduler::BlocksFor(int tokens) const {
  return (tokens + limits_.block_tokens - 1) / limits_.block_tokens;
}

int Scheduler::SeatsTaken() const {
  return static_cast<int>(running_.size()) - static_cast<int>(yielding_.size());
}

// Free ones that no running prompt was promised.
int Scheduler::BlocksToSpare() const { return pool_.free_count() - promised_; }

bool Scheduler::RanksBefore(const Sequence& a, const Sequence& b) const {
  if (limits_.policy == SchedulingPolicy::kPriority &&
      a.request->request.priority != b.request->request.priority) {
    return a.request->request.priority < b.request->request.priority;
  }
  return a.id < b.id;
}

// ---- running or not

void Scheduler::StartRunning(Sequence* sequence) {
  LiveRequest* live = sequence->request;
  queue_.AddRunning(live->tenant, +1);  // first: a tenant without work loses its turn
  queue_.Erase(sequence->id);
  waiting_.erase(sequence->id);
  waiting_tokens_ -= sequence->known();
  if (favoured_ == sequence->id) favoured_.reset();
  const auto place = std::upper_bound(
      running_.begin(), running_.end(), sequence,
      [this](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); });
  running_.insert(place, sequence);
  sequence->state = Sequence::State::kRunning;
  UpdatePromise(sequence);
  needing_last_token_ += live->needs_last_token;
  running_requests_ += live->running++ == 0;
}

void Scheduler::StopRunning(Sequence* sequence) {
  LiveRequest* live = sequence->request;
  const auto place = std::lower_bound(
      running_.begin(), running_.end(), sequence,
      [this](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); });
  running_.erase(place);
  if (sequence->yielding) {
    yielding_.erase(std::find(yielding_.begin(), yielding_.end(), sequence));
    sequence->yielding = false;
  }
  promised_ -= sequence->promise;
  sequence->promise = 0;
  queue_.AddRunning(live->tenant, -1);
  needing_last_token_ -= live->needs_last_token;
  running_requests_ -= --live->running == 0;
}

void Scheduler::UpdatePromise(Sequence* sequence) {
  const int missing =
      std::max(0, BlocksFor(sequence->known()) - static_cast<int>(sequence->blocks.size()));
  promised_ += missing - sequence->promise;
  sequence->promise = missing;
}

void Scheduler::Preempt(Sequence* sequence) {
  ++totals_.preemptions;
  pool_.Release(&sequence->blocks);
  sequence->computed = 0;
  sequence->sent = 0;
  sequence->newest_step = 0;  // its chunk in the plan of that step has blocks of others by now
  Enqueue(sequence);  // first: a tenant without work loses its turn
  StopRunning(sequence);
}

void Scheduler::GiveWay(Sequence* sequence) {
  if (sequence->in_flight == 0) return Preempt(sequence);
  sequence->yielding = true;
  yielding_.push_back(sequence);
}

// ---- blocks of one that begins

// Takes what is known of its tokens already: from a choice of the same request, or from the prefix
// cache. False, with nothing taken, when there is no room for the rest.
bool Scheduler::TakeKnownBlocks(Sequence* sequence, Draft* draft) {
  sequence->targets_next = sequence->next_target();
  return ShareWithSibling(sequence, draft) || Adopt(sequence);
}

// The last prompt token is computed again, for another draw from its row; or, when that is known
// too, the first token after the prompt.
bool Scheduler::ShareWithSibling(Sequence* sequence, Draft* draft) {
  LiveRequest* live = sequence->request;
  const auto has_prompt = [live](const Sequence& choice) {
    return choice.state == Sequence::State::kRunning && choice.computed >= live->prompt_tokens;
  };
  const auto sibling = std::find_if(live->choices.begin(), live->choices.end(), has_prompt);
  if (sibling == live->choices.end()) return false;
  const int shared = std::min(live->prompt_tokens, sequence->known() - 1);
  const int blocks = BlocksFor(shared);
  const bool copies = shared % limits_.block_tokens != 0;
  if (BlocksFor(sequence->known()) - blocks + copies > BlocksToSpare()) return false;
  sequence->blocks = pool_.Share({sibling->blocks.begin(), sibling->blocks.begin() + blocks});
  sequence->computed = sequence->sent = shared;
  if (!copies) return true;
  const KvPool::OwnResult own = pool_.MakeOwn(blocks - 1, &sequence->blocks);
  if (own.copy) {
    v1::BlockCopy* copy = draft->earlier.plan->add_copies();
    copy->set_source(own.copy->source);
    copy->set_destination(own.copy->destination);
  }
  return true;
}

bool Scheduler::Adopt(Sequence* sequence) {
  LiveRequest* live = sequence->request;
  const int adopted = pool_.Adopt(live->salt, AdoptableTokens(*sequence), &sequence->blocks);
  const int missing = BlocksFor(sequence->known()) - static_cast<int>(sequence->blocks.size());
  if (missing > BlocksToSpare()) {
    pool_.Release(&sequence->blocks);
    return false;
  }
  sequence->computed = sequence->sent = adopted;
  if (!live->admitted && limits_.prefix_caching) {
    live->cached_tokens = adopted;
    totals_.prefix_queries += live->prompt_tokens;
    totals_.prefix_hits += adopted;
  }
  return true;
}

// Blocks that are free now and that it would hold after Adopt and its known tokens.
int Scheduler::BlocksNeeded(const Sequence& waiting) {
  const int free = pool_.free_count();
  std::vector<int32_t> adopted;
  pool_.Adopt(waiting.request->salt, AdoptableTokens(waiting), &adopted);
  const int taken = free - pool_.free_count();
  const int missing = BlocksFor(waiting.known()) - static_cast<int>(adopted.size());
  pool_.Release(&adopted);
  return taken + missing;
}

// ---- blocks of one that runs

// Blocks for the first `tokens` tokens of a running sequence; others give way while there are too
// few.
bool Scheduler::Reserve(Sequence* wanting, int tokens) {
  const int count = BlocksFor(tokens);
  if (count <= static_cast<int>(wanting->blocks.size())) return true;
  while (!pool_.Grow(count, &wanting->blocks)) {
    if (!FindVictim(*wanting)) return false;
  }
  UpdatePromise(wanting);
  return true;
}

// Makes somebody give way for a running sequence. False when no blocks have become free by it.
bool Scheduler::FindVictim(const Sequence& wanting) {
  Sequence* victim = VictimForRunning(wanting);
  if (victim == nullptr) return false;
  if (victim->in_flight == 0) {
    Preempt(victim);
    return true;
  }
  if (yielding_.empty()) GiveWay(victim);  // one at a time: its blocks may well be enough
  return false;
}

// The last in rank of the tenant that has most seats beyond its share; of all when none has. Within
// its own tenant, and among all, a sequence ranks before whom it preempts: so the first in rank
// always gets on, and all of them do in turn. Rather one that no step computes.
Sequence* Scheduler::VictimForRunning(const Sequence& wanting) const {
  const SeatShares shares(queue_, limits_.max_sequences_per_step, yielding_);
  const std::optional<int> tenant = shares.MostBeyond();
  const bool of_another = tenant && *tenant != wanting.request->tenant;
  Sequence* in_flight = nullptr;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Sequence* candidate = *it;
    if (!of_another && !RanksBefore(wanting, *candidate)) break;
    if (candidate->yielding || (tenant && candidate->request->tenant != *tenant)) continue;
    if (candidate->in_flight == 0) return candidate;
    if (in_flight == nullptr) in_flight = candidate;
  }
  return in_flight;
}

// ---- room for one that waits

bool Scheduler::Fits(const Sequence& waiting) {
  if (SeatsTaken() >= limits_.max_sequences_per_step) return false;
  int blocks = BlocksToSpare();
  for (const Sequence* sequence : yielding_) {
    blocks += static_cast<int>(sequence->blocks.size()) + sequence->promise;
  }
  return BlocksFor(waiting.known()) <= blocks || BlocksNeeded(waiting) <= blocks;
}

// Others give way for a waiting request of better priority, or of a tenant below its share.
void Scheduler::MakeRoom() {
  if (queue_.empty()) return;
  while (true) {
    const SeatShares shares(queue_, limits_.max_sequences_per_step, yielding_);
    const Sequence* wanting = WantsRoom(shares);
    if (wanting == nullptr || Fits(*wanting)) return;
    Sequence* victim = VictimForWaiting(shares, *wanting);
    if (victim == nullptr) return;
    favoured_ = wanting->id;
    GiveWay(victim);
  }
}

Sequence* Scheduler::WantsRoom(const SeatShares& shares) {
  if (favoured_) return waiting_.at(*favoured_);
  if (shares.several()) {
    for (const int tenant : shares.active()) {
      if (queue_.waiting(tenant) > 0 && shares.below(tenant)) {
        return waiting_.at(*queue_.FrontOf(tenant));
      }
    }
  }
  if (limits_.policy != SchedulingPolicy::kPriority) return nullptr;
  return waiting_.at(*queue_.Front());
}

// By priority: the last in rank of a worse one, of the same tenant or of one beyond its share. For
// a tenant below its share: the last in rank of the tenant most beyond its own.
Sequence* Scheduler::VictimForWaiting(const SeatShares& shares, const Sequence& wanting) const {
  const LiveRequest& live = *wanting.request;
  const std::optional<int> most = shares.MostBeyond();
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    const LiveRequest& candidate = *(*it)->request;
    if ((*it)->yielding) continue;
    const bool worse = limits_.policy == SchedulingPolicy::kPriority &&
                       candidate.request.priority > live.request.priority;
    if (worse && (candidate.tenant == live.tenant || shares.beyond(candidate.tenant) > 0)) {
      return *it;
    }
    if (most == candidate.tenant && shares.below(live.tenant)) return *it;
  }
  return nullptr;
}

}  // namespace tessera::coordinator
