#include "tests/coordinator/simulate/simulation.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::testing {

using coordinator::Emission;
using coordinator::FinishCause;

absl::Duration SimulatedAnswer::TimeToFirstToken() const {
  return token_times.empty() ? absl::InfiniteDuration() : token_times.front() - arrived;
}

std::vector<absl::Duration> SimulatedAnswer::Gaps() const {
  std::vector<absl::Duration> gaps;
  for (size_t i = 1; i < token_times.size(); ++i) {
    gaps.push_back(token_times[i] - token_times[i - 1]);
  }
  return gaps;
}

Simulation::Simulation(const coordinator::SchedulerLimits& limits, const SimulatedCost& cost)
    : scheduler_(limits),
      worker_({.num_blocks = limits.num_blocks, .block_tokens = limits.block_tokens}),
      pipeline_(cost) {}

void Simulation::At(absl::Duration when, std::function<void()> what) {
  events_.emplace(begin_ + when, [what = std::move(what)] {
    what();
    return absl::OkStatus();
  });
}

void Simulation::Submit(absl::Duration when, coordinator::ScheduledRequest request) {
  At(when, [this, request = std::move(request)] { Add(request); });
}

void Simulation::SubmitAfter(int64_t before, absl::Duration pause,
                             coordinator::ScheduledRequest request) {
  after_.emplace(before, std::make_pair(pause, std::move(request)));
}

void Simulation::Cancel(absl::Duration when, int64_t request_id) {
  At(when, [this, request_id] {
    if (!scheduler_.Finish(request_id)) return;
    answers_[request_id].finished = FinishCause::kCancelled;
    answers_[request_id].ended = now_;
  });
}

void Simulation::Add(coordinator::ScheduledRequest request) {
  const int64_t id = request.id;
  SimulatedAnswer& answer = answers_[id];
  answer.arrived = now_;
  expected_[id] = {0, request.sampling};
  for (const int32_t token : request.prompt_ids) {
    expected_[id].state = SimulatedModel::Extend(expected_[id].state, token);
  }
  if (!request.seeds.empty()) expected_[id].sampling.set_seed(request.seeds[0]);
  // The loop wakes up for deadlines.
  if (request.deadline < absl::InfiniteFuture()) {
    events_.emplace(request.deadline, [] { return absl::OkStatus(); });
  }
  answer.refused = scheduler_.Add(std::move(request), now_);
}

absl::Status Simulation::RunUntil(absl::Duration end) {
  while (!events_.empty() && events_.begin()->first <= begin_ + end) {
    now_ = events_.begin()->first;
    while (!events_.empty() && events_.begin()->first == now_) {
      const std::function<absl::Status()> event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      TESSERA_RETURN_IF_ERROR(event());
    }
    TESSERA_RETURN_IF_ERROR(SendPlans());
  }
  if (events_.empty() && !scheduler_.idle()) {
    return absl::InternalError(absl::StrCat("deadlock after ", absl::FormatDuration(now()), ": ",
                                            stats().running, " run, ", stats().waiting, " wait"));
  }
  now_ = std::max(now_, end < absl::InfiniteDuration() ? begin_ + end : now_);
  return absl::OkStatus();
}

absl::Status Simulation::SendPlans() {
  while (std::optional<v1::StepPlan> plan = scheduler_.Schedule(now_)) {
    TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, worker_.Execute(*plan));
    const SimulatedPipeline::Times times = pipeline_.Accept(*plan, now_);
    result.set_compute_micros(absl::ToInt64Microseconds(times.ended - times.began));
    result.set_stall_micros(absl::ToInt64Microseconds(times.stall));
    computed_ += times.ended - times.began;
    stalled_ += times.stall;
    events_.emplace(times.arrived, [this, result = std::move(result)] { return Commit(result); });
  }
  for (const Emission& emission : scheduler_.TakeExpired()) {
    TESSERA_RETURN_IF_ERROR(Record(emission));
  }
  return absl::OkStatus();
}

absl::Status Simulation::Commit(const v1::StepResult& result) {
  ++steps_;
  TESSERA_ASSIGN_OR_RETURN(const std::vector<Emission> emissions, scheduler_.Commit(result));
  for (const Emission& emission : emissions) TESSERA_RETURN_IF_ERROR(Record(emission));
  return absl::OkStatus();
}

absl::Status Simulation::Record(const Emission& emission) {
  if (emission.choice != 0) return absl::OkStatus();
  SimulatedAnswer& answer = answers_[emission.request_id];
  if (emission.token) {
    answer.tokens.push_back(emission.token->token_id());
    answer.token_times.push_back(now_);
    Expected& expected = expected_[emission.request_id];
    v1::SampledToken token;
    model_.Draw(expected.state, expected.sampling, nullptr, &token);
    if (token.token_id() != emission.token->token_id()) {
      return absl::InternalError(absl::StrCat("request ", emission.request_id, ": token ",
                                              answer.tokens.size(), " is not the model's"));
    }
    expected.state = SimulatedModel::Extend(expected.state, token.token_id());
  }
  if (emission.finished == FinishCause::kNone) return absl::OkStatus();
  answer.finished = emission.finished;
  answer.ended = now_;
  const auto [first, last] = after_.equal_range(emission.request_id);
  for (auto next = first; next != last; ++next) {
    Submit(now() + next->second.first, next->second.second);
  }
  return absl::OkStatus();
}

absl::Duration Median(std::vector<absl::Duration> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace tessera::testing
