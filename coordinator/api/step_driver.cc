#include "coordinator/api/step_driver.h"

#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "proto/wire/status_macros.h"

namespace tessera::coordinator {
namespace {

SchedulerLimits LimitsFor(const ServedModel& served, int max_queue, int max_steps_in_flight) {
  const v1::ShardPlan& plan = served.plan;
  SchedulerLimits limits;
  limits.block_tokens = plan.kv_block_tokens();
  limits.num_blocks = plan.num_kv_blocks();
  limits.max_tokens_per_step = plan.max_tokens_per_step();
  limits.max_sequences_per_step = plan.max_sequences_per_step();
  limits.max_model_len = plan.max_model_len();
  limits.max_prefill_chunk = plan.max_tokens_per_step();
  // Submit counts all live requests; in here they all wait until the first Schedule.
  limits.max_queue = max_queue + plan.max_sequences_per_step();
  limits.max_steps_in_flight = max_steps_in_flight;
  limits.vocab_size = served.description.architecture().vocab_size();
  return limits;
}

}  // namespace

absl::Status GroupLostError() {
  return absl::UnavailableError("the worker group was lost before the request finished");
}

void StepDriver::Start(const ServedModel& served, std::shared_ptr<GroupTransport> transport) {
  scheduler_ = std::make_unique<Scheduler>(LimitsFor(served, max_queue_, max_steps_in_flight_));
  transport_ = std::move(transport);
}

void StepDriver::Stop(const absl::Status& why) {
  FailAll(why);
  scheduler_ = nullptr;
  transport_ = nullptr;
}

void StepDriver::Add(AdmittedRequest request) {
  const int64_t id = request.scheduled.id;
  deadlines_.emplace(request.scheduled.deadline, id);
  const AdmittedRequest& live = live_.emplace(id, std::move(request)).first->second;
  if (scheduler_ == nullptr) return Fail(id, GroupLostError());
  const absl::Status added = scheduler_->Add(live.scheduled, absl::Now());
  if (!added.ok()) Fail(id, added);
}

void StepDriver::FailAll(const absl::Status& why) {
  while (!live_.empty()) Fail(live_.begin()->first, why);
}

void StepDriver::SendPlans(absl::Time now) {
  if (scheduler_ == nullptr) return;
  while (std::optional<v1::StepPlan> plan = scheduler_->Schedule(now)) {
    // A failure means that the group is lost: OnLost follows and fails the requests.
    if (!transport_->SendPlan(*plan).ok()) break;
  }
  for (const Emission& emission : scheduler_->TakeExpired()) Deliver(emission);
}

absl::Status StepDriver::Commit(const v1::StepResult& result) {
  if (scheduler_ == nullptr) return absl::OkStatus();  // a late result of a lost group
  TESSERA_ASSIGN_OR_RETURN(std::vector<Emission> emissions, scheduler_->Commit(result));
  for (const Emission& emission : emissions) Deliver(emission);
  return absl::OkStatus();
}

absl::Time StepDriver::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

SchedulerStats StepDriver::stats() const {
  return scheduler_ == nullptr ? SchedulerStats{} : scheduler_->stats();
}

void StepDriver::Deliver(const Emission& emission) {
  const auto entry = live_.find(emission.request_id);
  if (entry == live_.end()) return;
  switch (emission.finished) {
    case FinishCause::kCancelled:
      return Forget(emission.request_id);
    case FinishCause::kDeadline:
      return Fail(emission.request_id,
                  absl::DeadlineExceededError("the request's deadline passed"));
    case FinishCause::kAborted:
      return Fail(emission.request_id, GroupLostError());
    case FinishCause::kNone:
    case FinishCause::kStopToken:
    case FinishCause::kLength:
      return DeliverToken(entry->second, emission);
  }
}

void StepDriver::DeliverToken(AdmittedRequest& request, const Emission& emission) {
  const bool is_stop_token = emission.finished == FinishCause::kStopToken;
  v1::GenerateResponse chunk;
  if (emission.token) chunk = request.output.Push(*emission.token, is_stop_token);
  const bool stopped = is_stop_token || request.output.stopped();
  if (!stopped && emission.finished == FinishCause::kNone) {
    request.sink->Push(std::move(chunk));
    return;
  }
  request.output.Finish(stopped ? v1::STOP : v1::LENGTH, chunk);
  request.sink->Finish(std::move(chunk));
  Forget(request.scheduled.id);
}

void StepDriver::Fail(int64_t id, const absl::Status& why) {
  const auto entry = live_.find(id);
  if (entry == live_.end()) return;
  entry->second.sink->Fail(why);
  Forget(id);
}

void StepDriver::Forget(int64_t id) {
  const auto entry = live_.find(id);
  if (entry == live_.end()) return;
  if (scheduler_ != nullptr) scheduler_->Finish(id);
  deadlines_.erase({entry->second.scheduled.deadline, id});
  live_.erase(entry);
  ++ended_;
}

}  // namespace tessera::coordinator
