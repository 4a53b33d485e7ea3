// What a request takes, and whether it can still be served in time.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/deadlines.h"
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

}  // namespace

// Better told at once than after all its time in the queue. Those of the tenant that wait already
// begin no faster than requests have begun lately, with whomever they share the group.
absl::Status Scheduler::CheckTurn(const ScheduledRequest& request, absl::Time now) {
  if (request.deadline == absl::InfiniteFuture() || limits_.policy != SchedulingPolicy::kFcfs) {
    return absl::OkStatus();
  }
  const int ahead = queue_.waiting(queue_.TenantIndex(request.tenant));
  const absl::Duration wait = absl::Microseconds(ahead * begin_micros_);
  if (now + wait <= request.deadline) return absl::OkStatus();
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
  const double tokens = std::min<double>(live.request.max_tokens, typical_output_);
  const double expected = MicrosForPrompt(live, known) + tokens * MicrosForToken();
  // With nobody about there is nothing that pace_ could know better: or, once it had a bad opinion,
  // nobody would begin and change it.
  double needed = expected * (running_.empty() ? 1 : pace_.mean());
  if (queue_.size() > 1) {
    const double whole = absl::ToDoubleMicroseconds(live.request.deadline - live.added_at);
    needed = std::max(needed, std::min(expected * pace_.cautious(), kMostSpare * whole));
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
  if (decodes > 0 && limits_.prefill_stretch > 1) {
    beside = std::max(beside, prompts / (limits_.prefill_stretch - 1));
  }
  return prompts + beside;
}

// Beside those that run now, and with prompts in between while others wait.
double Scheduler::MicrosForToken() const {
  const double step = cost_.PredictMicros({.decodes = SeatsBeside() + 1});
  const bool stretched = queue_.size() > 1 && limits_.prefill_stretch > 1;
  return step * (stretched ? limits_.prefill_stretch : 1);
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
  live->expected_token = MicrosForToken();
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
    for (const Sequence& choice : live->choices) {
      LearnOutput(choice, /*whole=*/false);
      if (!live->admitted || choice.emitted() < 0) continue;  // it has not begun, or was held
      pace_.Observe(ExpectedMicros(*live, choice.emitted()),
                    absl::ToDoubleMicroseconds(now - live->begun_at));
    }
    expired_.push_back({live->request.id, std::nullopt, FinishCause::kDeadline});
    FinishRequest(live);
  }
}

}  // namespace tessera::coordinator
