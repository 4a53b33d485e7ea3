#include "coordinator/engine/step_driver.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

SchedulerLimits LimitsFor(const ServedModel& served, SchedulerLimits limits) {
  const v1::ShardPlan& plan = served.plan;
  limits.block_tokens = plan.kv_block_tokens();
  limits.num_blocks = plan.num_kv_blocks();
  limits.max_tokens_per_step = plan.max_tokens_per_step();
  limits.max_sequences_per_step = plan.max_sequences_per_step();
  limits.max_model_len = plan.max_model_len();
  limits.max_prefill_chunk = plan.max_tokens_per_step();
  // Submit counts all live requests; in here they all wait until the first Schedule.
  limits.max_queue += plan.max_sequences_per_step();
  if (served.time_sliced_stages) limits.max_steps_in_flight = 1;
  limits.vocab_size = served.description.architecture().vocab_size();
  return limits;
}

}  // namespace

// ---- the group ----------------------------------------------------------------------------------

void StepDriver::Start(const ServedModel& served, std::shared_ptr<GroupTransport> transport) {
  scheduler_ = std::make_unique<Scheduler>(LimitsFor(served, options_.limits));
  transport_ = std::move(transport);
}

void StepDriver::Stop(bool may_be_theirs) {
  if (scheduler_ == nullptr) return;
  for (ScheduledRequest& request : scheduler_->TakeUnfinished(may_be_theirs)) {
    const auto live = live_.find(request.id);
    unfinished_.push_back({.scheduled = std::move(request), .record = std::move(live->second)});
    live_.erase(live);
  }
  deadlines_.clear();
  scheduler_ = nullptr;
  transport_ = nullptr;
  sent_.clear();
}

void StepDriver::SendPlans(absl::Time now) {
  if (scheduler_ == nullptr) return;
  while (scheduler_->Schedule(now, &plan_)) {
    sent_.emplace_back(plan_.step_id(), now);
    detector_->StepSent(plan_.step_id(), scheduler_->expected_step(), now);
    // A failure means that the group is lost: OnLost follows and fails the requests.
    if (!transport_->SendPlan(plan_).ok()) break;
  }
  for (const Emission& emission : scheduler_->TakeExpired()) Deliver(emission, now, now);
  FailExpired(now);
}

absl::Status StepDriver::Commit(const v1::StepResult& result, absl::Time now) {
  if (scheduler_ == nullptr) return absl::OkStatus();  // a late result of a lost group
  TESSERA_RETURN_IF_ERROR(scheduler_->Commit(result, &emissions_));
  const absl::Time sent = TakeSent(result.step_id());
  detector_->StepDone(result.step_id(), now);
  for (const Emission& emission : emissions_) Deliver(emission, sent, now);
  return absl::OkStatus();
}

absl::Time StepDriver::TakeSent(int64_t step_id) {
  for (auto step = sent_.begin(); step != sent_.end(); ++step) {
    if (step->first != step_id) continue;
    const absl::Time sent = step->second;
    sent_.erase(step);
    return sent;
  }
  return absl::InfinitePast();  // not one of ours: Commit has refused it
}

SchedulerStats StepDriver::stats() const {
  return scheduler_ == nullptr ? SchedulerStats{} : scheduler_->stats();
}

// ---- requests -----------------------------------------------------------------------------------

void StepDriver::Add(AdmittedRequest request, absl::Time now) {
  if (scheduler_ == nullptr) return unfinished_.push_back(std::move(request));
  const int64_t id = request.record.id;
  const absl::Time deadline = request.record.deadline;
  live_.emplace(id, std::move(request.record));
  if (deadline != absl::InfiniteFuture()) deadlines_.emplace(deadline, id);
  const absl::Status added = scheduler_->Add(std::move(request.scheduled), now);
  if (!added.ok()) Fail(id, added, now);
}

absl::Time StepDriver::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

// Whatever the scheduler did with them.
void StepDriver::FailExpired(absl::Time now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Fail(deadlines_.begin()->second, absl::DeadlineExceededError("the request's deadline passed"),
         now);
  }
}

void StepDriver::Deliver(const Emission& emission, absl::Time sent, absl::Time now) {
  const auto entry = live_.find(emission.request_id);
  if (entry == live_.end()) return;
  switch (emission.finished) {
    case FinishCause::kCancelled:
      return Cancel(emission.request_id, now);
    case FinishCause::kDeadline:
      return Fail(emission.request_id, absl::DeadlineExceededError("the request's deadline passed"),
                  now);
    case FinishCause::kNone:
    case FinishCause::kStopToken:
    case FinishCause::kLength:
      entry->second.times.FirstStep(sent);
      return DeliverOutput(entry, emission, now);
  }
}

void StepDriver::DeliverOutput(Live::iterator entry, const Emission& emission, absl::Time now) {
  RequestRecord& request = entry->second;
  OutputChunk chunk = request.output.Take(emission);
  if (chunk.is_empty) return;
  if (emission.token && options_.metrics != nullptr) {
    request.times.Token(emission.choice, now, *options_.metrics);
  }
  if (emission.token) request.Resumed(now);
  if (!chunk.is_last) {
    if (chunk.choice_stopped) scheduler_->FinishChoice(entry->first, emission.choice);
    request.sink->Push(std::move(chunk.message));
    return;
  }
  request.Finish(std::move(chunk.message), now, options_.metrics);
  Forget(entry);
}

void StepDriver::Cancel(int64_t id, absl::Time now) {
  const auto entry = live_.find(id);
  if (entry == live_.end()) return;
  entry->second.Cancelled(now, options_.metrics);
  Forget(entry);
}

void StepDriver::Fail(int64_t id, const absl::Status& why, absl::Time now) {
  const auto entry = live_.find(id);
  if (entry == live_.end()) return;
  entry->second.Fail(why, now, options_.metrics);
  Forget(entry);
}

void StepDriver::FailAll(const absl::Status& why) {
  const absl::Time now = absl::Now();
  while (!live_.empty()) Fail(live_.begin()->first, why, now);
}

void StepDriver::Forget(Live::iterator entry) {
  ended_.push_back(entry->first);
  if (scheduler_ != nullptr) scheduler_->Finish(entry->first);
  deadlines_.erase({entry->second.deadline, entry->first});
  live_.erase(entry);
}

}  // namespace tessera::coordinator
