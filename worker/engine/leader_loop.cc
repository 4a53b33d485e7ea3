// The leader's loop of serve_loops.h.
#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/wire/status_macros.h"
#include "worker/comm/backoff.h"
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
      : runner_(runner), links_(links), channel_(channel), options_(options) {}

  absl::Status Run() {
    const absl::Status status = Loop();
    if (absl::IsCancelled(status)) {
      TESSERA_RETURN_IF_ERROR(links_.SendToAll(StepMessageKind::kEnd, ""));
      return Drain();
    }
    // The others learn why, if they can still be reached; the reason to return stays the first.
    links_.SendToAll(StepMessageKind::kAbort, status.ToString()).IgnoreError();
    return status;
  }

 private:
  struct InFlight {
    int64_t step_id;
    absl::Time accepted;
  };

  // Returns CANCELLED when the channel asks for the end.
  absl::Status Loop() {
    Backoff backoff;
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(const bool accepted, AcceptPlan());
      TESSERA_ASSIGN_OR_RETURN(const bool delivered, DeliverResult());
      TESSERA_RETURN_IF_ERROR(links_.KeepAlive());
      TESSERA_RETURN_IF_ERROR(CheckPatience());
      if (accepted || delivered || in_flight_.empty()) {
        backoff.Reset();  // an idle leader waits in AcceptPlan instead
        continue;
      }
      backoff.Wait();
    }
  }

  absl::StatusOr<bool> AcceptPlan() {
    if (static_cast<int>(in_flight_.size()) >= links_.stages()) return false;
    const absl::Duration wait =
        in_flight_.empty() ? std::min(kIdleWait, options_.heartbeat) : absl::ZeroDuration();
    TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepPlan> step, channel_.NextPlan(wait));
    if (!step) return false;
    TESSERA_RETURN_IF_ERROR(RunStep(*step));
    return true;
  }

  absl::Status RunStep(const v1::StepPlan& step) {
    const absl::Time accepted = absl::Now();
    TESSERA_RETURN_IF_ERROR(runner_.Check(step));
    const std::string header = step.SerializeAsString();
    TESSERA_RETURN_IF_ERROR(links_.SendToPeers(StepMessageKind::kStep, header));
    TESSERA_RETURN_IF_ERROR(runner_.Forward(step, {}, [&] { return links_.KeepAlive(); }));
    in_flight_.push_back({step.step_id(), accepted});
    if (!links_.on_last_stage()) {
      handed_on_ = std::chrono::steady_clock::now();
      return links_.SendToNextStage(StepMessageKind::kStep, header, runner_.activations());
    }
    TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, runner_.Finish(step));
    return Deliver(std::move(result));
  }

  absl::StatusOr<bool> DeliverResult() {
    if (links_.on_last_stage()) return false;  // delivered at once
    TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, links_.TryReceiveResult());
    if (!result) return false;
    TESSERA_RETURN_IF_ERROR(Deliver(*std::move(result)));
    return true;
  }

  absl::Status Deliver(v1::StepResult result) {
    TESSERA_RETURN_IF_ERROR(Complete(result));
    return channel_.SendResult(std::move(result));
  }

  // Takes the step out of flight and notes how long it took.
  absl::Status Complete(v1::StepResult& result) {
    if (in_flight_.empty() || in_flight_.front().step_id != result.step_id()) {
      return absl::InternalError(absl::StrCat(
          "the last stage answered step ", result.step_id(), "; expected ",
          in_flight_.empty() ? "none" : absl::StrCat("step ", in_flight_.front().step_id)));
    }
    result.set_compute_micros(absl::ToInt64Microseconds(absl::Now() - in_flight_.front().accepted));
    in_flight_.pop_front();
    return absl::OkStatus();
  }

  // Fails when a result is due and the last stage has been silent for too long.
  absl::Status CheckPatience() const {
    if (in_flight_.empty()) return absl::OkStatus();
    if (links_.SilenceSince(handed_on_) < options_.result_deadline) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat(
        "step ", in_flight_.front().step_id, ": no sign of life from the last stage within ",
        absl::FormatDuration(options_.result_deadline)));
  }

  // After the end was asked for: takes the results still under way, so that no message is left
  // behind when the communicator closes. Nobody may be listening any more, which is no failure.
  absl::Status Drain() {
    Backoff backoff;
    while (!in_flight_.empty()) {
      TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, links_.TryReceiveResult());
      if (result) {
        TESSERA_RETURN_IF_ERROR(Complete(*result));
        channel_.SendResult(*std::move(result)).IgnoreError();
        backoff.Reset();
        continue;
      }
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
  std::chrono::steady_clock::time_point handed_on_;  // the latest step, to the next stage
};

}  // namespace

absl::Status ServeAsLeader(StepRunner& runner, PipelineLinks& links, StepChannel& channel,
                           const RankEngineOptions& options) {
  return Leader(runner, links, channel, options).Run();
}

}  // namespace tessera::worker
