#include "coordinator/schedule/deadline_admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/scheduling_policy.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {

// ---- at the start of a step

void DeadlineAdmission::LearnEnded(const ServingLoad& load, absl::Time now) {
  for (const EndedChoice& ended : ended_) {
    estimator_->ObserveLatency(ended.expected_micros,
                               absl::ToDoubleMicroseconds(now - ended.begun_at));
  }
  ended_.clear();
  if (load.waiting == 0) last_begun_ = absl::InfinitePast();
}

void DeadlineAdmission::UpdateOverload(bool other_tenant_active, absl::Time now) {
  const bool lately = now - last_late_ < policy::kOverloadLasts;
  estimator_->set_overloaded(lately && policy_ == SchedulingPolicy::kFcfs && !other_tenant_active);
  itl_budget_micros_ = -1;
}

// ---- decisions

// Those ahead begin no faster than requests have begun lately, with whomever they share the group.
absl::Status DeadlineAdmission::CheckTurn(absl::Time deadline, int ahead, absl::Time now) {
  if (deadline == absl::InfiniteFuture() || policy_ != SchedulingPolicy::kFcfs) {
    return absl::OkStatus();
  }
  if (deadline <= now) return absl::OkStatus();  // no queue's fault: the next step drops it
  const absl::Duration wait = absl::Microseconds(ahead * begin_interval_micros_);
  if (now + wait <= deadline) return absl::OkStatus();
  last_late_ = now;
  return wire::OverloadedError(
      absl::StrCat(ahead, " requests wait, for about ", absl::ToInt64Seconds(wait),
                   " s; the deadline is in ", absl::FormatDuration(deadline - now)),
      std::clamp(absl::Ceil(now + wait - deadline, absl::Seconds(1)), policy::kLeastRetryAfter,
                 policy::kMostRetryAfter));
}

// While others wait it costs nothing to be careful: the next one has more time left. Alone it is
// tried as long as there is hope.
absl::Time DeadlineAdmission::CheckAt(const RequestState& request, const ServingLoad& load) const {
  const absl::Time deadline = request.request.deadline;
  if (request.admitted || !estimator_->known()) return deadline;
  const int cached = cache_->CountCached(request);
  const double tokens = estimator_->TypicalTokens(request);
  const double prompt = estimator_->TtftMicros(request, cached, load);
  const double expected =
      prompt + tokens * estimator_->ItlMicros(estimator_->SlotsBeside(load) + 1, load);
  // With nobody about there is nothing that request latencies could know better: or, once they were
  // bad, nobody would begin and change that.
  const RequestLatencyEstimator& latency = estimator_->request_latency();
  double needed = expected * (load.running.empty() ? 1 : latency.mean());
  if (load.waiting > 1) {
    const double whole = absl::ToDoubleMicroseconds(deadline - request.added_at);
    double careful = expected * latency.cautious();
    // Those that begin with time left for a full group let it fill. With less, they would keep the
    // others out: few would run at once, and the group's time be spent on small steps.
    if (estimator_->overloaded()) {
      const double step = estimator_->ItlMicros(estimator_->slots(), load);
      careful = std::max(careful, estimator_->StepsMicros(step, tokens + prompt / step));
    }
    needed = std::max(needed, std::min(careful, policy::kMostCaution * whole));
  }
  return deadline - absl::Microseconds(needed);
}

bool DeadlineAdmission::IsTooLate(const RequestState& request, const ServingLoad& load,
                                  absl::Time now) const {
  return request.request.deadline != absl::InfiniteFuture() && now >= CheckAt(request, load);
}

bool DeadlineAdmission::MayBegin(const RequestState& request, const ServingLoad& load,
                                 absl::Time now) {
  if (!estimator_->overloaded() || load.running.empty() || !estimator_->known()) return true;
  if (estimator_->IsFullEnough(load)) return false;
  const int cached = cache_->CountCached(request);
  const double step = estimator_->OverloadedItlMicros(static_cast<int>(load.running.size()) + 1,
                                                      estimator_->PromptMicros(request, cached));
  if (itl_budget_micros_ < 0) itl_budget_micros_ = estimator_->ItlBudgetMicros(load, now);
  if (step > itl_budget_micros_) return false;
  // Its prompt takes steps as well.
  const double steps =
      estimator_->TypicalTokens(request) + estimator_->TtftMicros(request, cached, load) / step;
  return now + absl::Microseconds(estimator_->StepsMicros(step, steps)) <= request.request.deadline;
}

// ---- what happened

void DeadlineAdmission::Begin(RequestState* request, int cached, const ServingLoad& load,
                              absl::Time now) {
  request->admitted = true;
  request->begun_at = now;
  // Where nobody waited the queue is no obstacle: what was learned fades.
  const bool others_waited = last_begun_ != absl::InfinitePast();
  const double micros = others_waited ? absl::ToDoubleMicroseconds(now - last_begun_) : 0;
  begin_interval_micros_ += policy::kBeginIntervalRate * (micros - begin_interval_micros_);
  last_begun_ = load.waiting > 1 ? now : absl::InfinitePast();
  if (!estimator_->known()) return;
  request->expected_prompt_micros = estimator_->TtftMicros(*request, cached, load);
  request->expected_token_micros = estimator_->ItlMicros(estimator_->SlotsBeside(load) + 1, load);
  estimator_->ObserveStart(*request, cached);
}

void DeadlineAdmission::LearnDropped(const RequestState& request, absl::Time now) {
  for (const Sequence& choice : request.choices) {
    estimator_->ObserveOutput(choice.emitted(), /*whole=*/false);
    if (!request.admitted || choice.emitted() < 0) continue;  // it has not begun, or was held
    estimator_->ObserveLatency(ExpectedMicros(request, choice.emitted()),
                               absl::ToDoubleMicroseconds(now - request.begun_at));
  }
}

void DeadlineAdmission::Ended(const Sequence& choice) {
  const RequestState& request = *choice.request;
  estimator_->ObserveOutput(choice.emitted(), /*whole=*/true);
  ended_.push_back({request.begun_at, ExpectedMicros(request, choice.emitted())});
}

}  // namespace tessera::coordinator
