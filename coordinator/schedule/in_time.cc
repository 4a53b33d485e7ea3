// What a request takes, and whether it can still be served in time.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/deadlines.h"
#include "coordinator/schedule/plan_draft.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/sequence.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kLeastRetryAfter = absl::Seconds(1);
constexpr absl::Duration kMostRetryAfter = absl::Seconds(60);

constexpr double kBeginRate = 1.0 / 32;  // of the time between requests that begin

// A request that has so much of its time left is begun however late others have been: if those were
// late with as much, waiting for one with more helps nobody.
constexpr double kMostSpare = 0.75;

// Small chunks leave the group's time unused. For so long after that has cost others their answers,
// streams bear steps so many times as long as prefill_stretch says.
constexpr absl::Duration kPressed = absl::Seconds(2);
constexpr double kPressedStretch = 4;

// Of the requests that run, so many may be too late already: for them the others do not wait.
constexpr double kGivenUp = 0.1;

// So much longer than on average the steps of a request may take, in deviations of their sum.
constexpr double kDeviations = 2;

// What a step takes by itself is shared by those in it. While that is more than this part of the
// step, one more is worth it; and in any case until one seat in so many is taken.
constexpr double kWorthSharing = 0.02;
constexpr int kLeastSeatsPart = 4;

constexpr double kPromptRate = 1.0 / 32;  // of what typical prompts take

}  // namespace

// Better told at once than after all its time in the queue. Those of the tenant that wait already
// begin no faster than requests have begun lately, with whomever they share the group.
absl::Status Scheduler::CheckTurn(const ScheduledRequest& request, absl::Time now) {
  if (request.deadline == absl::InfiniteFuture() || limits_.policy != SchedulingPolicy::kFcfs) {
    return absl::OkStatus();
  }
  if (request.deadline <= now) return absl::OkStatus();  // no queue's fault: the next Schedule's
  const int ahead = queue_.waiting(queue_.TenantIndex(request.tenant));
  const absl::Duration wait = absl::Microseconds(ahead * begin_micros_);
  if (now + wait <= request.deadline) return absl::OkStatus();
  pressed_at_ = now;
  return wire::OverloadedError(
      absl::StrCat(ahead, " requests wait, for about ", absl::ToInt64Seconds(wait),
                   " s; the deadline is in ", absl::FormatDuration(request.deadline - now)),
      std::clamp(absl::Ceil(now + wait - request.deadline, absl::Seconds(1)), kLeastRetryAfter,
                 kMostRetryAfter));
}

// When to look at its deadline next: a request that has not run is dropped as soon as what it takes
// would be too long. A service that starts what it cannot end in time has no time for anybody.
//
// While others wait it costs nothing to be careful: the next one has more time left. Alone it is
// tried as long as there is hope.
absl::Time Scheduler::CheckAt(const LiveRequest& live) const {
  if (live.admitted || !cost_.known()) return live.request.deadline;
  const int known = pool_.Match(live.salt, live.choices[0].tokens);
  const double tokens = TypicalTokens(live);
  const double prompt = MicrosForPrompt(live, known);
  const double expected = prompt + tokens * MicrosForToken(SeatsBeside() + 1);
  // With nobody about there is nothing that pace_ could know better: or, once it had a bad opinion,
  // nobody would begin and change it.
  double needed = expected * (running_.empty() ? 1 : pace_.mean());
  if (queue_.size() > 1) {
    const double whole = absl::ToDoubleMicroseconds(live.request.deadline - live.added_at);
    double careful = expected * pace_.cautious();
    // Those that begin with time left for a full group let it fill. With less, they would keep the
    // others out: few would run at once, and the group's time be spent on small steps.
    if (pressed_) {
      const double step = MicrosForToken(limits_.max_sequences_per_step);
      careful = std::max(careful, step_noise_.Micros(step, tokens + prompt / step, kDeviations));
    }
    needed = std::max(needed, std::min(careful, kMostSpare * whole));
  }
  return live.request.deadline - absl::Microseconds(needed);
}

// How many others will run beside one that begins now, or when it gets a seat.
int Scheduler::SeatsBeside() const {
  return std::min(static_cast<int>(running_.size()), limits_.max_sequences_per_step - 1);
}

// Behind the prompts under way, and beside decodes that leave it a part of each step.
double Scheduler::MicrosForPrompt(const LiveRequest& live, int known) const {
  const int unknown = live.prompt_tokens - known;
  const int tokens = unknown + backlog_.tokens;
  const int steps = (tokens + limits_.max_tokens_per_step - 1) / limits_.max_tokens_per_step;
  const int decodes = SeatsBeside();
  const double prompts = cost_.PromptMicros(unknown, known) + backlog_.micros;
  double beside = steps * cost_.PredictMicros({.decodes = decodes});
  if (decodes > 0 && Stretch() > 1) beside = std::max(beside, prompts / (Stretch() - 1));
  return prompts + beside;
}

// Whether a request was turned away for its deadline lately, and nobody is about who goes before
// others or waits for a step to end.
bool Scheduler::IsPressed(absl::Time now) const {
  const bool lately = now - pressed_at_ < kPressed;
  return lately && limits_.policy == SchedulingPolicy::kFcfs && !HasCompany(now);
}

double Scheduler::Stretch() const {
  return limits_.prefill_stretch * (pressed_ ? kPressedStretch : 1);
}

// So many at once, and with prompts in between while others wait.
double Scheduler::MicrosForToken(int sequences) const {
  if (pressed_) return MicrosForPressedStep(sequences, 0);
  const double step = cost_.PredictMicros({.decodes = sequences});
  const bool stretched = queue_.size() > 1 && limits_.prefill_stretch > 1;
  return step * (stretched ? limits_.prefill_stretch : 1);
}

// Whoever ends is followed by another: over the tokens of its output each sequence adds a whole
// prompt to the steps, the newest its own where that takes longer than most.
double Scheduler::MicrosForPressedStep(int sequences, double own_prompt) const {
  const double decodes = cost_.PredictMicros({.decodes = sequences});
  const double prompts =
      (sequences - 1) * typical_prompt_ + std::max(own_prompt, typical_prompt_);
  const double step = decodes + prompts / std::max(1.0, typical_output_);
  return Stretch() > 1 ? std::min(step, Stretch() * decodes) : step;
}

double Scheduler::TypicalTokens(const LiveRequest& live) const {
  return std::min<double>(live.request.max_tokens, typical_output_);
}

// More at once would hardly save the group any time, and everybody has the less to spare should
// the machine slow down.
bool Scheduler::IsFullEnough() const {
  const int sequences = static_cast<int>(running_.size());
  if (sequences * kLeastSeatsPart < limits_.max_sequences_per_step) return false;
  return cost_.PredictMicros({}) < kWorthSharing * MicrosForPressedStep(sequences, 0);
}

// Whether it and those that run can all be expected to end in time, if it begins now.
bool Scheduler::MayJoin(const LiveRequest& live, Draft* draft) {
  if (running_.empty() || !cost_.known()) return true;
  if (IsFullEnough()) return false;
  const int known = pool_.Match(live.salt, live.choices[0].tokens);
  const double prompt = cost_.PromptMicros(live.prompt_tokens - known, known);
  const double step = MicrosForPressedStep(static_cast<int>(running_.size()) + 1, prompt);
  if (draft->bearable_micros < 0) draft->bearable_micros = BearableMicros(draft->now);
  if (step > draft->bearable_micros) return false;
  // Its prompt takes steps as well.
  const double steps = TypicalTokens(live) + MicrosForPrompt(live, known) / step;
  const double whole = step_noise_.Micros(step, steps, kDeviations);
  return draft->now + absl::Microseconds(whole) <= live.request.deadline;
}

// How long steps can be expected to take and nearly all that run still end in time. Infinite where
// none has to. Those that would be too late if nobody began any more do not count.
double Scheduler::BearableMicros(absl::Time now) {
  const double least_step = cost_.PredictMicros({.decodes = static_cast<int>(running_.size())});
  bearable_.clear();
  for (const Sequence* sequence : running_) {
    const LiveRequest& live = *sequence->request;
    if (live.request.deadline == absl::InfiniteFuture()) continue;
    double left = absl::ToDoubleMicroseconds(live.request.deadline - now);
    if (!sequence->decoding()) left -= backlog_.micros;
    const double tokens = std::max(1.0, TypicalTokens(live) - std::max(0, sequence->emitted()));
    const double step = left / step_noise_.Micros(1, tokens, /*deviations=*/0);
    if (step >= least_step) bearable_.push_back(step);
  }
  if (bearable_.empty()) return HUGE_VAL;
  const auto least = bearable_.begin() +
                     static_cast<std::ptrdiff_t>(kGivenUp * static_cast<double>(bearable_.size()));
  std::nth_element(bearable_.begin(), least, bearable_.end());
  return *least;
}

void Scheduler::Begin(LiveRequest* live, absl::Time now, int known) {
  live->admitted = true;
  live->begun_at = now;
  // Where nobody waited the queue is no obstacle: what was learned fades.
  const bool others_waited = last_begun_ != absl::InfinitePast();
  const double micros = others_waited ? absl::ToDoubleMicroseconds(now - last_begun_) : 0;
  begin_micros_ += kBeginRate * (micros - begin_micros_);
  last_begun_ = queue_.size() > 1 ? now : absl::InfinitePast();
  if (!cost_.known()) return;
  live->expected_prompt = MicrosForPrompt(*live, known);
  live->expected_token = MicrosForToken(SeatsBeside() + 1);
  const double alone = cost_.PromptMicros(live->prompt_tokens - known, known);
  typical_prompt_ += (typical_prompt_ > 0 ? kPromptRate : 1) * (alone - typical_prompt_);
}

double Scheduler::ExpectedMicros(const LiveRequest& live, int emitted) const {
  return live.expected_prompt + emitted * live.expected_token;
}

void Scheduler::LearnPace(absl::Time now) {
  for (const Ended& ended : ended_now_) {
    pace_.Observe(ended.expected_micros, absl::ToDoubleMicroseconds(now - ended.begun_at));
  }
  ended_now_.clear();
  if (queue_.empty()) last_begun_ = absl::InfinitePast();
}

bool Scheduler::TooLate(const LiveRequest& live, absl::Time now) const {
  return live.request.deadline != absl::InfiniteFuture() && now >= CheckAt(live);
}

void Scheduler::DropExpired(absl::Time now) {
  while (LiveRequest* live = deadlines_->PopDue(now)) {
    if (!TooLate(*live, now)) {  // less to compute than was thought, or it has started since
      deadlines_->Set(live, CheckAt(*live));
      continue;
    }
    if (!live->admitted) pressed_at_ = now;
    for (const Sequence& choice : live->choices) {
      LearnOutput(choice, /*whole=*/false);
      if (!live->admitted || choice.emitted() < 0) continue;  // it has not begun, or was held
      pace_.Observe(ExpectedMicros(*live, choice.emitted()),
                    absl::ToDoubleMicroseconds(now - live->begun_at));
    }
    expired_.push_back({.request_id = live->request.id, .finished = FinishCause::kDeadline});
    FinishRequest(live);
  }
}

}  // namespace tessera::coordinator
