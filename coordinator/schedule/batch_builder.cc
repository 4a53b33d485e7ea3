#include "coordinator/schedule/batch_builder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "coordinator/schedule/prompt_budget.h"
#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

// The step that is being built.
struct BatchBuilder::Draft {
  Options options;
  Step* step = nullptr;
  EarlierPlan* earlier = nullptr;   // with the plan to write
  int budget = 0;                   // tokens left,
  int prompt_budget = 0;            // and of those, for prompts
  double prompt_micros = HUGE_VAL;  // left for prompts of tenants that are not in deficit,
  int least_prompt_tokens = 0;      // and the tokens of those that go whatever they take
  bool starved = false;             // somebody found no block: admit nobody
  const Sequence* cut = nullptr;    // a prompt that got less than it could have used
  int charged_tenant = 0;           // computed for it here and not yet charged:
  int64_t charged_tokens = 0;
};

BatchBuilder::BatchBuilder(const SchedulerLimits& limits, int max_len, const Parts& parts,
                           std::function<void(RequestState*)> drop_late)
    : limits_(limits),
      max_len_(max_len),
      cache_(parts.cache),
      table_(parts.table),
      preemption_(parts.preemption),
      admission_(parts.admission),
      estimator_(parts.estimator),
      cost_(parts.cost),
      tenants_(parts.tenants),
      drop_late_(std::move(drop_late)) {}

void BatchBuilder::Build(const Options& options, Step* step, EarlierPlan* earlier) {
  Draft draft{
      .options = options, .step = step, .earlier = earlier, .budget = limits_.max_tokens_per_step};
  AddDecodes(&draft);
  AddPrompts(&draft);
  Charge(&draft);
}

// ---- decodes

// Whether tenants above their share leave their decodes out of this step.
bool BatchBuilder::StepsAside(const SlotShares& shares) {
  stepped_aside_ = !stepped_aside_ && shares.MostAbove().has_value();
  if (!stepped_aside_) return false;
  for (const int tenant : shares.active()) {
    if (shares.MayAdmitAhead(tenant)) return true;
  }
  for (const Sequence* sequence : table_->running()) {
    if (!sequence->decoding() && shares.in_deficit(sequence->tenant)) return true;
  }
  stepped_aside_ = false;
  return false;
}

bool BatchBuilder::CanDecode(const Sequence& sequence, const Draft& draft) const {
  if (sequence.victim || !sequence.decoding()) return false;
  if (!sequence.awaits_token()) return sequence.in_flight == 0 || draft.options.async;
  // One step ahead of a token that is still being sampled, unless that is the last one anyway.
  return draft.options.async && sequence.pending_samples == 1 &&
         sequence.sampling_step == draft.options.oldest_step &&
         sequence.emitted() + 1 < sequence.max_tokens && sequence.known() + 1 < max_len_;
}

void BatchBuilder::AddDecodes(Draft* draft) {
  const SlotShares shares(*table_);
  const bool steps_aside = StepsAside(shares);
  candidates_ = table_->running();  // which changes when somebody is preempted
  prompts_.clear();
  draft->step->expected.reserve(candidates_.size());
  draft->step->owners.reserve(candidates_.size());
  draft->earlier->plan->mutable_chunks()->Reserve(static_cast<int>(candidates_.size()));
  // An even share for every step that may be in flight, or the first would take all of them and
  // the other stages would idle.
  const size_t steps = static_cast<size_t>(limits_.max_steps_in_flight);
  size_t share = (candidates_.size() + steps - 1) / steps;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i + kPrefetchFar < candidates_.size()) Prefetch(*candidates_[i + kPrefetchFar]);
    if (i + kPrefetchNear < candidates_.size() && !candidates_[i + kPrefetchNear]->awaits_token()) {
      PrefetchTail(*candidates_[i + kPrefetchNear]);
    }
    PrefetchBehind(*draft->earlier, static_cast<int>(draft->step->owners.size()));
    Sequence* sequence = candidates_[i];
    if (sequence->state != Sequence::State::kRunning) continue;  // preempted meanwhile
    if (!sequence->decoding()) prompts_.push_back(sequence);
    if (share == 0 || draft->budget == 0 || !CanDecode(*sequence, *draft)) continue;
    if (steps_aside && shares.above(sequence->tenant) > 0) continue;
    if (AddChunk(sequence, 1, draft)) --share;
  }
}

// ---- prompts under way

void BatchBuilder::AddPrompts(Draft* draft) {
  Charge(draft);
  // What a step takes without prompts is not known before there was one, and under load from the
  // start there would never be.
  const bool decodes_only = !cost_->known() && draft->options.measured &&
                            draft->step->id % policy::kDecodesOnlyEverySteps == 0;
  if (decodes_only && draft->step->shape.decodes > 0) return;
  const SlotShares shares(*table_);
  if (limits_.prefill_stretch > 0) {
    draft->prompt_micros = PromptMicros(shares, *draft);
    draft->least_prompt_tokens = policy::kLeastPrefillTokens;
  }
  draft->prompt_budget = PromptTokensOfStep(limits_, *cost_, PromptTokensLeft());
  out_of_blocks_ = false;
  if (shares.several()) AddPromptsUnderWay(shares, /*in_deficit=*/true, draft);
  if (AdmitBeneficiary(shares, draft)) AdmitInDeficit(shares, draft);
  AddPromptsUnderWay(shares, /*in_deficit=*/false, draft);
  if (preemption_->beneficiary() == nullptr) AdmitInTurn(shares, draft);
  out_of_blocks_ |= draft->starved;
}

bool BatchBuilder::CanPrefill(const Sequence& sequence, const Draft& draft) const {
  return sequence.state == Sequence::State::kRunning && !sequence.victim &&
         sequence.newest_step != draft.step->id && !sequence.decoding() &&
         (sequence.in_flight == 0 || draft.options.async);
}

double BatchBuilder::PromptMicros(const SlotShares& shares, const Draft& draft) const {
  PromptSituation situation = {.decodes = draft.step->shape.decodes,
                               .stretch = estimator_->stretch()};
  if (situation.decodes == 0 && cost_->known()) {
    situation.tokens_left = PromptTokensLeft();
    situation.other_tenant_active = OtherThanPromptsActive(shares, draft.options.now);
  }
  return PromptMicrosOfStep(*cost_, situation);
}

// Whether any tenant is active besides the one whose prompts are left.
bool BatchBuilder::OtherThanPromptsActive(const SlotShares& shares, absl::Time now) const {
  if (shares.several() || shares.active().empty()) return shares.several();
  const Sequence* next = table_->FrontOf(shares.active().front());
  if (next == nullptr) next = table_->running().front();
  return tenants_->OtherThan(next->request->salt, now);
}

// As far as is known.
int BatchBuilder::PromptTokensLeft() const {
  int64_t left = table_->waiting_tokens();
  for (const Sequence* sequence : prompts_) left += sequence->known() - sequence->sent;
  return static_cast<int>(std::min<int64_t>(left, INT32_MAX));
}

// Prompts of the tenants in deficit get on by the whole budget, those of all the others by what may
// stretch the step.
void BatchBuilder::AddPromptsUnderWay(const SlotShares& shares, bool in_deficit, Draft* draft) {
  estimator_->ClearBacklog();
  for (Sequence* sequence : prompts_) {
    if (in_deficit && !shares.in_deficit(sequence->tenant)) continue;
    if (!CanPrefill(*sequence, *draft)) continue;
    AddChunk(sequence, in_deficit ? draft->budget : Allowance(*draft, *sequence), draft);
    Charge(draft);
    estimator_->AddBacklog(sequence->known() - sequence->sent, sequence->sent);
  }
}

// Tokens of a prompt of a tenant that is not in deficit.
int BatchBuilder::Allowance(const Draft& draft, const Sequence& sequence) const {
  return std::max(draft.least_prompt_tokens,
                  cost_->PromptTokens(draft.prompt_micros, sequence.sent));
}

// ---- sequences that wait

// False when it still does not fit: nobody may take the room that was made for it.
bool BatchBuilder::AdmitBeneficiary(const SlotShares& shares, Draft* draft) {
  Sequence* sequence = preemption_->beneficiary();
  if (sequence == nullptr) return true;
  return Admit(sequence, shares.in_deficit(sequence->tenant), draft);
}

void BatchBuilder::AdmitInDeficit(const SlotShares& shares, Draft* draft) {
  for (const int tenant : shares.active()) {
    while (shares.MayAdmitAhead(tenant)) {
      if (!Admit(table_->FrontOf(tenant), /*in_deficit=*/true, draft)) break;
    }
  }
}

// The first one that does not fit holds up the rest. Nobody begins with the crumbs that a prompt
// ranking before it has left: it would take a slot, and its time would run, only to wait there.
void BatchBuilder::AdmitInTurn(const SlotShares& shares, Draft* draft) {
  while (table_->waiting() > 0) {
    Sequence* next = NextInTurn(shares);
    if (draft->cut != nullptr && table_->RanksBefore(*draft->cut, *next)) return;
    if (!Admit(next, /*in_deficit=*/false, draft)) return;
  }
}

// A tenant that has all its slots lets those go first that have not: they could ask for the slot
// right after.
Sequence* BatchBuilder::NextInTurn(const SlotShares& shares) {
  Sequence* next = table_->Front();
  if (!shares.several() || shares.below(next->tenant)) return next;
  for (const int tenant : shares.active()) {
    if (table_->tenants().waiting(tenant) > 0 && shares.below(tenant)) {
      return table_->FrontOf(tenant);
    }
  }
  return next;
}

// True when it is waiting no more: it runs, with a chunk in the step as large as the budget (of a
// tenant in deficit) or the allowance lets it be, or it was too late for its deadline.
bool BatchBuilder::Admit(Sequence* sequence, bool in_deficit, Draft* draft) {
  const auto most = [&] { return in_deficit ? draft->budget : Allowance(*draft, *sequence); };
  if (draft->starved || std::min({most(), draft->budget, draft->prompt_budget}) < 1) return false;
  const size_t slots = static_cast<size_t>(limits_.max_sequences_per_step);
  if (!table_->HasFreeSlot() || draft->step->owners.size() >= slots) return false;
  RequestState* request = sequence->request;
  if (draft->options.suspects && WouldMeetASuspect(*request)) return false;
  const absl::Time now = draft->options.now;
  if (!request->admitted && admission_->IsTooLate(*request, Load(), now)) {
    admission_->WasTooLate(now);
    drop_late_(request);
    return true;
  }
  if (!in_deficit && !request->admitted && !admission_->MayBegin(*request, Load(), now)) {
    return false;
  }
  // Room for all it is known to need, so that a prompt is not admitted only to be preempted.
  if (!cache_->TakePrefix(sequence, draft->earlier->plan)) {
    out_of_blocks_ = true;
    return false;
  }
  if (!request->admitted) admission_->Begin(request, sequence->computed, Load(), now);
  table_->Start(sequence);
  cache_->Reserve(sequence);
  preemption_->StopsWaiting(*sequence);
  AddChunk(sequence, std::max(1, most()), draft);  // behind what was found in the prefix cache
  Charge(draft);
  return true;
}

bool BatchBuilder::WouldMeetASuspect(const RequestState& request) const {
  if (request.proven) return false;
  return std::any_of(table_->running().begin(), table_->running().end(),
                     [&](const Sequence* sequence) {
                       const RequestState* other = sequence->request;
                       if (other == &request || other->proven) return false;
                       return request.suspect || other->suspect;
                     });
}

// ---- one chunk

// The next tokens of `sequence`, at most `most`, as many as budget, chunk limit and blocks allow.
// False when none.
bool BatchBuilder::AddChunk(Sequence* sequence, int most, Draft* draft) {
  const bool decode = sequence->decoding();
  const int left = sequence->awaits_token() ? 1 : sequence->known() - sequence->sent;
  int count = std::min({left, limits_.max_prefill_chunk, most, draft->budget});
  if (!decode) count = std::min(count, draft->prompt_budget);
  if (!decode && count < std::min(left, limits_.max_prefill_chunk)) draft->cut = sequence;
  if (count < 1) return false;
  count = GrowFor(sequence, count, draft);
  if (count < 1) return false;
  AppendChunk(limits_, count, sequence, draft->step, draft->earlier);
  draft->budget -= count;
  if (decode) {
    ++draft->step->shape.decodes;
  } else {
    const int context = sequence->sent - count;
    draft->prompt_budget -= count;
    draft->prompt_micros -= cost_->PromptMicros(count, context);
    draft->least_prompt_tokens = std::max(0, draft->least_prompt_tokens - count);
    draft->step->shape.prefill_tokens += count;
    draft->step->shape.attended += Attended(count, context);
  }
  if (sequence->tenant != draft->charged_tenant) Charge(draft);
  draft->charged_tenant = sequence->tenant;
  draft->charged_tokens += count;
  return true;
}

// Blocks for the next `count` tokens of `sequence`, or, when others cannot be preempted for all of
// them, for as many as whatever is free still holds. Returns how many; below 1: none.
int BatchBuilder::GrowFor(Sequence* sequence, int count, Draft* draft) {
  if (preemption_->GrowOrPreempt(sequence->sent + count, sequence)) return count;
  draft->starved = true;
  count = std::min(count, cache_->MostTokens(*sequence) - sequence->sent);
  return count >= 1 && cache_->Grow(sequence->sent + count, sequence) ? count : 0;
}

void BatchBuilder::Charge(Draft* draft) {
  if (draft->charged_tokens == 0) return;
  table_->tenants().Charge(draft->charged_tenant, draft->charged_tokens);
  draft->charged_tokens = 0;
}

}  // namespace tessera::coordinator
