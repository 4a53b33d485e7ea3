// What goes into the next step: decodes first, then prompts under way, then those that wait.
#include <algorithm>
#include <utility>

#include "coordinator/schedule/deadlines.h"
#include "coordinator/schedule/pipeline_fill.h"
#include "coordinator/schedule/plan_draft.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/seat_shares.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step.h"

namespace tessera::coordinator {
namespace {

// A prompt beside running streams gets on by so much per step, whatever it costs them. Few: behind
// thousands of tokens, attention makes each several times as dear as the first ones.
constexpr int kLeastPrefillTokens = 4;

// Of the steps, until their costs are known, so many to one of decodes alone.
constexpr int64_t kTryEverySteps = 8;

// The prompts of a step without decodes may take so long while another tenant is about, or eight
// times what every step costs; less than so many pieces of that are not worth cutting.
constexpr double kPieceMicros = 20'000;
constexpr double kFewPieces = 3;

// A tenant that added a request so recently is expected to come again.
constexpr absl::Duration kAbout = absl::Seconds(10);

}  // namespace

std::optional<v1::StepPlan> Scheduler::Schedule(absl::Time now) {
  std::optional<v1::StepPlan> plan(std::in_place);
  if (!Schedule(now, &*plan)) plan.reset();
  return plan;
}

bool Scheduler::Schedule(absl::Time now, v1::StepPlan* plan) {
  LearnPace(now);
  DropExpired(now);
  ForgetOver();
  pressed_ = IsPressed(now);
  Draft draft;
  draft.ahead = limits_.lookahead && needing_last_token_ == 0 && !HasCompany(now);
  const size_t most = static_cast<size_t>(limits_.max_steps_in_flight + (draft.ahead ? 1 : 0));
  if (in_flight_.size() >= most) return false;
  draft.step = NewStep();
  draft.earlier = {.plan = plan, .step_id = plan == newest_plan_ ? plan->step_id() : 0};
  plan->clear_copies();
  draft.now = now;
  draft.budget = limits_.max_tokens_per_step;
  draft.step->id = next_step_id_;
  draft.step->sent_at = now;
  if (!in_flight_.empty()) draft.oldest_step = in_flight_.front()->id;
  MakeRoom();
  PlanDecodes(&draft);
  PlanPrompts(&draft);
  Charge(&draft);
  if (draft.step->owners.empty()) {
    spare_steps_.push_back(std::move(draft.step));
    // Decodes may have stepped aside for somebody who turned out to be too late. Not twice in a row.
    return stepped_aside_ && Schedule(now, plan);
  }
  plan->set_step_id(next_step_id_++);
  newest_plan_ = plan;
  const int chunks = static_cast<int>(draft.step->owners.size());
  while (plan->chunks_size() > chunks) plan->mutable_chunks()->RemoveLast();  // keeps its memory
  in_flight_.push_back(std::move(draft.step));
  return true;
}

std::unique_ptr<Step> Scheduler::NewStep() {
  if (spare_steps_.empty()) return std::make_unique<Step>();
  std::unique_ptr<Step> step = std::move(spare_steps_.back());
  spare_steps_.pop_back();
  return step;
}

// Whether a tenant besides that of `salt` has added a request lately.
bool Scheduler::AnotherIsAbout(uint64_t salt, absl::Time now) const {
  for (const auto& [tenant, added] : newest_tenants_) {
    if (tenant != salt && now - added < kAbout) return true;
  }
  return false;
}

// Whether anybody is about besides the tenant of the first that runs.
bool Scheduler::HasCompany(absl::Time now) const {
  if (running_.empty()) return false;
  const uint64_t salt = running_.front()->request->salt;
  return running_.back()->request->salt != salt || AnotherIsAbout(salt, now);
}

// ---- decodes

// Whether tenants beyond their share leave their decodes out of this step, for the prompt of one
// that is owed. Never twice in a row: their streams go on.
bool Scheduler::StepsAside(const SeatShares& shares) {
  stepped_aside_ = !stepped_aside_ && shares.MostBeyond().has_value();
  if (!stepped_aside_) return false;
  for (const int tenant : shares.active()) {
    if (queue_.waiting(tenant) > 0 && shares.below(tenant) && shares.owed(tenant)) return true;
  }
  for (const Sequence* sequence : running_) {
    if (!sequence->decoding() && shares.owed(sequence->tenant)) return true;
  }
  stepped_aside_ = false;
  return false;
}

bool Scheduler::CanDecode(const Sequence& sequence, const Draft& draft) const {
  if (sequence.yielding || !sequence.decoding()) return false;
  if (!sequence.awaits_token()) return sequence.in_flight == 0 || draft.ahead;
  // One step ahead of a token that is still being drawn, unless that is the last one anyway.
  return draft.ahead && sequence.draws == 1 && sequence.drawing_step == draft.oldest_step &&
         sequence.emitted() + 1 < sequence.max_tokens && sequence.known() + 1 < max_len_;
}

void Scheduler::PlanDecodes(Draft* draft) {
  const SeatShares shares(queue_, limits_.max_sequences_per_step, yielding_);
  const bool steps_aside = StepsAside(shares);
  ready_ = running_;  // which changes when somebody gives way
  prompts_.clear();
  draft->step->expected.reserve(ready_.size());
  draft->step->owners.reserve(ready_.size());
  draft->earlier.plan->mutable_chunks()->Reserve(static_cast<int>(ready_.size()));
  // An even share for every step that may be in flight, or the first would take all of them and
  // the other stages would idle.
  const size_t steps = static_cast<size_t>(limits_.max_steps_in_flight);
  size_t share = (running_.size() + steps - 1) / steps;
  for (size_t i = 0; i < ready_.size(); ++i) {
    if (i + kPrefetchFar < ready_.size()) Prefetch(*ready_[i + kPrefetchFar]);
    if (i + kPrefetchNear < ready_.size() && !ready_[i + kPrefetchNear]->awaits_token()) {
      PrefetchTail(*ready_[i + kPrefetchNear]);
    }
    PrefetchBehind(draft->earlier, static_cast<int>(draft->step->owners.size()));
    Sequence* sequence = ready_[i];
    if (sequence->state != Sequence::State::kRunning) continue;  // gave way meanwhile
    if (!sequence->decoding()) prompts_.push_back(sequence);
    if (share == 0 || draft->budget == 0 || !CanDecode(*sequence, *draft)) continue;
    if (steps_aside && shares.beyond(sequence->tenant) > 0) continue;
    if (PlanChunk(sequence, 1, draft)) --share;
  }
}

// ---- prompts

bool Scheduler::CanPrefill(const Sequence& sequence, const Draft& draft) const {
  return sequence.state == Sequence::State::kRunning && !sequence.yielding &&
         sequence.newest_step != draft.step->id && !sequence.decoding() &&
         (sequence.in_flight == 0 || draft.ahead);
}

void Scheduler::PlanPrompts(Draft* draft) {
  Charge(draft);
  // What a step takes without prompts is not known before there was one, and under load from the
  // start there would never be.
  const bool tries_without =
      !cost_.known() && totals_.compute_micros > 0 && draft->step->id % kTryEverySteps == 0;
  if (tries_without && draft->step->shape.decodes > 0) return;
  const SeatShares shares(queue_, limits_.max_sequences_per_step, yielding_);
  if (limits_.prefill_stretch > 0) {
    draft->prefill_micros = PrefillMicros(shares, *draft);
    draft->least_prefill = kLeastPrefillTokens;
  }
  draft->prompt_budget = PromptBudget();
  out_of_blocks_ = false;
  if (shares.several()) PlanPromptsUnderWay(shares, /*owed=*/true, draft);
  if (AdmitFavoured(shares, draft)) AdmitOwed(shares, draft);
  PlanPromptsUnderWay(shares, /*owed=*/false, draft);
  if (!favoured_) AdmitInTurn(shares, draft);
  out_of_blocks_ |= draft->starved;
}

// Of prompts of tenants that are not owed any, in one step: what the decodes in it bear. Without
// decodes they keep only those waiting who come while they are computed. Where somebody may, they
// get on in pieces; unless they are done soon anyway.
double Scheduler::PrefillMicros(const SeatShares& shares, const Draft& draft) const {
  const int decodes = draft.step->shape.decodes;
  if (decodes > 0 || !cost_.known()) return cost_.PrefillMicros(decodes, Stretch());
  const double piece = std::max(kPieceMicros, cost_.PromptMicros(cost_.WorthAStep(), 0));
  const bool done_soon = cost_.PromptMicros(PromptTokensLeft(), 0) < kFewPieces * piece;
  return done_soon || !PromptsHaveCompany(shares, draft.now) ? HUGE_VAL : piece;
}

// Whether anybody is about besides the tenant whose prompts are left.
bool Scheduler::PromptsHaveCompany(const SeatShares& shares, absl::Time now) const {
  if (shares.several() || shares.active().empty()) return shares.several();
  const std::optional<int64_t> next = queue_.FrontOf(shares.active().front());
  const Sequence* sequence = next ? waiting_.at(*next) : running_.front();
  return AnotherIsAbout(sequence->request->salt, now);
}

// As far as is known.
int Scheduler::PromptTokensLeft() const {
  int64_t left = waiting_tokens_;
  for (const Sequence* sequence : prompts_) left += sequence->known() - sequence->sent;
  return static_cast<int>(std::min<int64_t>(left, INT32_MAX));
}

// Of one step. What prompts cost beside a step must be known: small steps may be dear.
int Scheduler::PromptBudget() const {
  if (limits_.max_steps_in_flight == 1 || !cost_.known()) return limits_.max_tokens_per_step;
  return PromptTokensPerStep({.left = PromptTokensLeft(),
                              .stages = limits_.max_steps_in_flight,
                              .fewest = cost_.WorthAStep(),
                              .most = limits_.max_tokens_per_step});
}

// The rest of prompts that run already: of the tenants that are owed, by the whole budget, or of
// all the others, by what may stretch the step.
void Scheduler::PlanPromptsUnderWay(const SeatShares& shares, bool owed, Draft* draft) {
  backlog_ = {};
  for (Sequence* sequence : prompts_) {
    if (owed && !shares.owed(sequence->tenant)) continue;
    if (!CanPrefill(*sequence, *draft)) continue;
    PlanChunk(sequence, owed ? draft->budget : Allowance(*draft, *sequence), draft);
    Charge(draft);
    const int rest = sequence->known() - sequence->sent;
    backlog_.tokens += rest;
    backlog_.micros += cost_.PromptMicros(rest, sequence->sent);
  }
}

// Of a prompt of a tenant that is not owed any.
int Scheduler::Allowance(const Draft& draft, const Sequence& sequence) const {
  return std::max(draft.least_prefill, cost_.PromptTokens(draft.prefill_micros, sequence.sent));
}

// The room that others made is for this one. False when it still does not fit: nobody may take the
// room away.
bool Scheduler::AdmitFavoured(const SeatShares& shares, Draft* draft) {
  if (!favoured_) return true;
  Sequence* sequence = waiting_.at(*favoured_);
  const bool owed = shares.owed(sequence->request->tenant);
  return Admit(sequence, owed, draft);
}

void Scheduler::AdmitOwed(const SeatShares& shares, Draft* draft) {
  for (const int tenant : shares.active()) {
    while (queue_.waiting(tenant) > 0 && shares.below(tenant) && shares.owed(tenant)) {
      if (!Admit(waiting_.at(*queue_.FrontOf(tenant)), /*owed=*/true, draft)) break;
    }
  }
}

// The first one that does not fit holds up the rest. Nobody begins with the crumbs that a prompt
// ranking before it has left: it would take a seat, and its time would run, only to wait there.
void Scheduler::AdmitInTurn(const SeatShares& shares, Draft* draft) {
  while (!queue_.empty()) {
    Sequence* next = NextInTurn(shares);
    if (draft->cut != nullptr && RanksBefore(*draft->cut, *next)) return;
    if (!Admit(next, /*owed=*/false, draft)) return;
  }
}

// A tenant that has all its seats lets those go first that have not: they could ask for the seat
// right after.
Sequence* Scheduler::NextInTurn(const SeatShares& shares) {
  Sequence* next = waiting_.at(*queue_.Front());
  if (!shares.several() || shares.below(next->request->tenant)) return next;
  for (const int tenant : shares.active()) {
    if (queue_.waiting(tenant) > 0 && shares.below(tenant)) {
      return waiting_.at(*queue_.FrontOf(tenant));
    }
  }
  return next;
}

// True when it is waiting no more: it runs, with a chunk in the step as large as the budget (owed)
// or the allowance lets it be, or it was too late for its deadline.
bool Scheduler::Admit(Sequence* sequence, bool owed, Draft* draft) {
  const auto most = [&] { return owed ? draft->budget : Allowance(*draft, *sequence); };
  if (draft->starved || std::min({most(), draft->budget, draft->prompt_budget}) < 1) return false;
  const size_t seats = static_cast<size_t>(limits_.max_sequences_per_step);
  if (SeatsTaken() >= limits_.max_sequences_per_step) return false;
  if (draft->step->owners.size() >= seats) return false;
  LiveRequest* live = sequence->request;
  if (!live->admitted && TooLate(*live, draft->now)) {
    pressed_at_ = draft->now;
    expired_.push_back({.request_id = live->request.id, .finished = FinishCause::kDeadline});
    FinishRequest(live);
    return true;
  }
  if (pressed_ && !owed && !live->admitted && !MayJoin(*live, draft)) return false;
  // Room for all it is known to need, so that a prompt is not admitted only to be preempted.
  if (!TakeKnownBlocks(sequence, draft)) {
    out_of_blocks_ = true;
    return false;
  }
  if (!live->admitted) Begin(live, draft->now, sequence->computed);
  StartRunning(sequence);
  PlanChunk(sequence, std::max(1, most()), draft);  // behind what was found in the prefix cache
  Charge(draft);
  return true;
}

// ---- one chunk

// The next tokens of `sequence`, at most `most`, as many as budget, chunk limit and blocks allow.
// False when none.
bool Scheduler::PlanChunk(Sequence* sequence, int most, Draft* draft) {
  const bool decode = sequence->decoding();
  const int left = sequence->awaits_token() ? 1 : sequence->known() - sequence->sent;
  int count = std::min({left, limits_.max_prefill_chunk, most, draft->budget});
  if (!decode) count = std::min(count, draft->prompt_budget);
  if (!decode && count < std::min(left, limits_.max_prefill_chunk)) draft->cut = sequence;
  if (count < 1) return false;
  if (!Reserve(sequence, sequence->sent + count)) {
    draft->starved = true;
    // Whatever is free still helps a prompt along.
    const int blocks = static_cast<int>(sequence->blocks.size()) + pool_.free_count();
    count = std::min(count, blocks * limits_.block_tokens - sequence->sent);
    if (count < 1 || !pool_.Grow(BlocksFor(sequence->sent + count), &sequence->blocks)) {
      return false;
    }
    UpdatePromise(sequence);
  }
  AppendChunk(limits_, count, sequence, draft->step.get(), &draft->earlier);
  draft->budget -= count;
  if (decode) {
    ++draft->step->shape.decodes;
  } else {
    const int context = sequence->sent - count;
    draft->prompt_budget -= count;
    draft->prefill_micros -= cost_.PromptMicros(count, context);
    draft->least_prefill = std::max(0, draft->least_prefill - count);
    draft->step->shape.prefill_tokens += count;
    draft->step->shape.attended += Attended(count, context);
  }
  if (sequence->tenant != draft->charged_tenant) Charge(draft);
  draft->charged_tenant = sequence->tenant;
  draft->charged_tokens += count;
  return true;
}

void Scheduler::Charge(Draft* draft) {
  if (draft->charged_tokens == 0) return;
  queue_.Charge(draft->charged_tenant, draft->charged_tokens);
  draft->charged_tokens = 0;
}

}  // namespace tessera::coordinator
