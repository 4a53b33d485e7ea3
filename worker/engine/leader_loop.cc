// The leader's loop of serve_loops.h.
#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/engine/device_timeline.h"
#include "worker/engine/recent_steps.h"
#include "worker/engine/serve_loops.h"

namespace tessera::worker {
namespace {

// The longest the leader sleeps in its channel. Between sleeps it looks at the communicator, which
// drives unfinished sends forward and notices a dead group.
constexpr absl::Duration kIdleWait = absl::Milliseconds(100);

class Leader {
 public:
  Leader(StepRunner& runner, PipelineLinks& links, StepChannel& channel,
         const RankEngineOptions& options)
      : runner_(runner),
        links_(links),
        channel_(channel),
        options_(options),
        recent_(links.stages()),
        timeline_(*options.clock) {}

  absl::Status Run() {
    absl::Status status = Loop();
    if (absl::IsCancelled(status)) {
      TESSERA_RETURN_IF_ERROR(links_.SendToAll(StepMessageKind::kEnd, ""));
      return Drain();
    }
    // The others learn why, if they can still be reached; the reason to return stays the first.
    links_.SendToAll(StepMessageKind::kAbort, status.ToString()).IgnoreError();
    return status;
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct InFlight {
    int64_t step_id = 0;
    Clock::time_point began;
    absl::Duration stall;
  };

  // Returns CANCELLED when the channel asks for the end.
  absl::Status Loop() {
    Backoff backoff = MakeBackoff();
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(const bool accepted, AcceptPlan());
      TESSERA_ASSIGN_OR_RETURN(const bool delivered, DeliverResult());
      TESSERA_RETURN_IF_ERROR(links_.KeepAlive());
      TESSERA_RETURN_IF_ERROR(runner_.CheckDevice());
      TESSERA_RETURN_IF_ERROR(CheckPatience());
      if (accepted || delivered || in_flight_.empty()) {
        backoff.Reset();  // an idle leader waits in AcceptPlan instead
        continue;
      }
      backoff.Wait();
    }
  }

  Backoff MakeBackoff() const {
    return Backoff(runner_.async_scheduling() ? kGpuStep : links_.patience());
  }

  // One for each stage, or one that runs and one behind it on the same device.
  size_t MostInFlight() const { return runner_.async_scheduling() ? 2 : links_.stages(); }

  // Starts the next step when there is room for it, a plan, and every token that the plan continues
  // from. A plan whose tokens are still being sampled waits; the ones behind it stay in the
  // channel.
  absl::StatusOr<bool> AcceptPlan() {
    if (in_flight_.size() >= MostInFlight()) return false;
    if (!next_) TESSERA_RETURN_IF_ERROR(TakePlan());
    if (!next_ || next_waits_) return false;
    const bool whole = runner_.MayEnqueue(*next_);
    TESSERA_ASSIGN_OR_RETURN(const bool ready, IsReady(whole));
    next_waits_ = !ready;
    if (!ready) return false;
    v1::StepPlan step = *std::move(next_);
    next_.reset();
    if (whole) {
      TESSERA_RETURN_IF_ERROR(EnqueueStep(std::move(step)));
      return true;
    }
    options_.clock->BeginStep(/*others_work=*/!in_flight_.empty());
    TESSERA_RETURN_IF_ERROR(RunStep(step));
    options_.clock->EndStep();
    return true;
  }

  // Puts the tokens that the next plan continues from into it; false while it has to wait. Behind a
  // step on the same device only those go that can be put there whole.
  absl::StatusOr<bool> IsReady(bool whole) {
    if (!AtWork()) return recent_.FillIn(*next_);
    if (!whole || !runner_.TakesBehind(*next_)) return false;
    return recent_.FillInWithPlaceholders(*next_);
  }

  absl::Status TakePlan() {
    if (!looking_since_) looking_since_ = Clock::now();
    const absl::Duration wait =
        in_flight_.empty() ? std::min(kIdleWait, options_.heartbeat) : absl::ZeroDuration();
    TESSERA_ASSIGN_OR_RETURN(next_, channel_.NextPlan(wait));
    if (next_) next_stall_ = StallBefore(*next_);
    if (next_ || AtWork()) looking_since_.reset();
    return absl::OkStatus();
  }

  // Whether this rank's device has a step.
  bool AtWork() const { return runner_.async_scheduling() && !in_flight_.empty(); }

  // How long this stage looked for the plan in vain (StepResult.stall_micros in serve_loops.h).
  absl::Duration StallBefore(const v1::StepPlan& plan) const {
    const absl::Duration looked = absl::FromChrono(Clock::now() - *looking_since_);
    const bool idle = in_flight_.empty() && !recent_.Continues(plan);
    const bool stalled = !idle && !AtWork() && looked <= options_.longest_stall;
    return stalled ? looked : absl::ZeroDuration();
  }

  absl::Status RunStep(const v1::StepPlan& step) {
    const Clock::time_point began = Clock::now();
    const auto alive = [&] { return links_.KeepAlive(); };
    TESSERA_RETURN_IF_ERROR(runner_.Check(step));
    const std::string header = step.SerializeAsString();
    TESSERA_RETURN_IF_ERROR(links_.SendToPeers(StepMessageKind::kStep, header));
    TESSERA_RETURN_IF_ERROR(runner_.Forward(step, {}, alive));
    in_flight_.push_back({step.step_id(), began, next_stall_});
    recent_.Begin(step);
    if (!links_.on_last_stage()) {
      handed_on_ = Clock::now();
      TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> activations, runner_.Activations());
      TESSERA_RETURN_IF_ERROR(options_.clock->Moving([&] {
        return links_.SendToNextStage(StepMessageKind::kStep, header, activations);
      }));
      return runner_.HandOn();
    }
    TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, runner_.Finish(step, alive));
    return Deliver(std::move(result));
  }

  absl::Status EnqueueStep(v1::StepPlan step) {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(runner_.CheckEnqueue(step));
    if (links_.has_peers()) {
      TESSERA_RETURN_IF_ERROR(
          links_.SendToPeers(StepMessageKind::kEnqueue, step.SerializeAsString()));
    }
    timeline_.Enqueued();
    in_flight_.push_back({step.step_id(), began, next_stall_});
    recent_.Begin(step);
    return runner_.Enqueue(std::move(step), [&] { return links_.KeepAlive(); });
  }

  // The result of the oldest step on this device. The one behind it begins now.
  absl::StatusOr<std::optional<v1::StepResult>> TryCollect() {
    TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, runner_.TryCollect());
    if (!result) return result;
    timeline_.Collected();
    if (in_flight_.size() > 1) in_flight_[1].began = timeline_.began();
    return result;
  }

  // The result of the oldest step in flight, if it is there.
  absl::StatusOr<std::optional<v1::StepResult>> TryResult() {
    if (runner_.async_scheduling()) return TryCollect();
    if (links_.on_last_stage()) return std::nullopt;  // delivered at once
    return links_.TryReceiveResult();
  }

  absl::StatusOr<bool> DeliverResult() {
    TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, TryResult());
    if (!result) return false;
    TESSERA_RETURN_IF_ERROR(Deliver(*std::move(result)));
    return true;
  }

  absl::Status Deliver(v1::StepResult result) {
    TESSERA_RETURN_IF_ERROR(Complete(result));
    return channel_.SendResult(std::move(result));
  }

  // Takes the step out of flight, keeps its tokens and notes how long it took.
  absl::Status Complete(v1::StepResult& result) {
    TESSERA_RETURN_IF_ERROR(recent_.End(result));
    const InFlight& step = in_flight_.front();
    result.set_compute_micros(
        absl::ToInt64Microseconds(absl::FromChrono(Clock::now() - step.began)));
    result.set_stall_micros(absl::ToInt64Microseconds(step.stall));
    in_flight_.pop_front();
    next_waits_ = false;
    return absl::OkStatus();
  }

  // Fails when a result is due and the last stage (or this rank's device) has been silent too long.
  absl::Status CheckPatience() const {
    if (in_flight_.empty()) return absl::OkStatus();
    const int64_t step_id = in_flight_.front().step_id;
    if (AtWork()) return timeline_.CheckPatience(step_id, options_.result_deadline);
    if (links_.SilenceSince(handed_on_) < options_.result_deadline) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat(
        "step ", step_id, ": no sign of life from the last stage within ",
        absl::FormatDuration(options_.result_deadline)));
  }

  // After the end was asked for: takes the results still under way, so that no message is left
  // behind when the communicator closes. Nobody may be listening any more, which is no failure.
  absl::Status Drain() {
    Backoff backoff = MakeBackoff();
    while (!in_flight_.empty()) {
      TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, TryResult());
      if (result) {
        TESSERA_RETURN_IF_ERROR(Complete(*result));
        channel_.SendResult(*std::move(result)).IgnoreError();
        backoff.Reset();
        continue;
      }
      TESSERA_RETURN_IF_ERROR(runner_.CheckDevice());
      TESSERA_RETURN_IF_ERROR(CheckPatience());
      backoff.Wait();
    }
    return absl::OkStatus();
  }

  StepRunner& runner_;
  PipelineLinks& links_;
  StepChannel& channel_;
  const RankEngineOptions& options_;
  std::deque<InFlight> in_flight_;
  RecentSteps recent_;
  std::optional<v1::StepPlan> next_;  // taken from the channel, not begun
  bool next_waits_ = false;           // for a token of a step in flight
  absl::Duration next_stall_;
  std::optional<Clock::time_point> looking_since_;  // for a plan, with room for one
  Clock::time_point handed_on_;  // the latest step, to the next stage
  DeviceTimeline timeline_;      // of the steps put on this rank's device
};

}  // namespace

absl::Status ServeAsLeader(StepRunner& runner, PipelineLinks& links, StepChannel& channel,
                           const RankEngineOptions& options) {
  return Leader(runner, links, channel, options).Run();
}

}  // namespace tessera::worker
