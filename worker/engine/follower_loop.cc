// The loop of every rank but the leader (serve_loops.h).
#include <deque>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/engine/device_timeline.h"
#include "worker/engine/serve_loops.h"

namespace tessera::worker {
namespace {

class Follower {
 public:
  Follower(StepRunner& runner, PipelineLinks& links, const RankEngineOptions& options)
      : runner_(runner), links_(links), options_(options), timeline_(*options.clock) {}

  absl::Status Run() {
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(const StepMessage message, NextMessage());
      switch (message.kind()) {
        case StepMessageKind::kStep:
          TESSERA_RETURN_IF_ERROR(LeaveOnDevice(0));
          options_.clock->BeginStep(/*others_work=*/!links_.on_first_stage());
          TESSERA_RETURN_IF_ERROR(RunStep(message));
          options_.clock->EndStep();
          break;
        case StepMessageKind::kEnqueue:
          TESSERA_RETURN_IF_ERROR(LeaveOnDevice(1));
          TESSERA_RETURN_IF_ERROR(EnqueueStep(message));
          break;
        case StepMessageKind::kEnd:
          TESSERA_RETURN_IF_ERROR(LeaveOnDevice(0));
          return links_.SendToNextStage(message.kind(), message.header());
        default:
          TESSERA_RETURN_IF_ERROR(Answer(message));
      }
    }
  }

 private:
  // What needs no room on the device.
  absl::Status Answer(const StepMessage& message) {
    switch (message.kind()) {
      case StepMessageKind::kHeartbeat:
        TESSERA_RETURN_IF_ERROR(runner_.CheckDevice());
        return links_.SendHeartbeat();
      case StepMessageKind::kAbort:
        TESSERA_RETURN_IF_ERROR(links_.SendToNextStage(message.kind(), message.header()));
        return absl::AbortedError(absl::StrCat("the leader gave up: ", message.header()));
      default:
        return absl::InternalError(absl::StrCat("a message of kind ",
                                                static_cast<int>(message.kind()),
                                                " came down the pipeline; expected a step"));
    }
  }

  // Takes what the device samples until there is a message.
  absl::StatusOr<StepMessage> NextMessage() {
    TESSERA_RETURN_IF_ERROR(
        LookUntil([&] { return !inbox_.empty() || runner_.under_way() == 0; }));
    if (inbox_.empty()) return links_.ReceiveStep();
    StepMessage message = std::move(inbox_.front());
    inbox_.pop_front();
    return message;
  }

  // Until at most that many steps are on the device.
  absl::Status LeaveOnDevice(int most) {
    return LookUntil([&] { return runner_.under_way() <= most; });
  }

  absl::Status LookUntil(absl::FunctionRef<bool()> done) {
    Backoff backoff(kGpuStep);
    while (!done()) {
      TESSERA_ASSIGN_OR_RETURN(const bool came, Look());
      if (came) {
        backoff.Reset();
      } else {
        backoff.Wait();
      }
    }
    return absl::OkStatus();
  }

  // One look around while steps are on the device. Whether anything came.
  absl::StatusOr<bool> Look() {
    TESSERA_ASSIGN_OR_RETURN(const bool heard, Listen());
    TESSERA_ASSIGN_OR_RETURN(const std::optional<v1::StepResult> result, runner_.TryCollect());
    if (result) {
      timeline_.Collected();
      return true;
    }
    TESSERA_RETURN_IF_ERROR(runner_.CheckDevice());
    TESSERA_RETURN_IF_ERROR(
        timeline_.CheckPatience(runner_.oldest_step_id(), options_.result_deadline));
    return heard;
  }

  // Messages that wait for their turn go to the inbox.
  absl::StatusOr<bool> Listen() {
    TESSERA_ASSIGN_OR_RETURN(std::optional<StepMessage> message, links_.TryReceiveStep());
    if (!message) return false;
    switch (message->kind()) {
      case StepMessageKind::kStep:
      case StepMessageKind::kEnqueue:
      case StepMessageKind::kEnd:
        inbox_.push_back(*std::move(message));
        return true;
      default:
        TESSERA_RETURN_IF_ERROR(Answer(*message));
        return true;
    }
  }

  static absl::StatusOr<v1::StepPlan> Parse(const StepMessage& message) {
    const absl::string_view header = message.header();
    v1::StepPlan step;
    if (!step.ParseFromArray(header.data(), static_cast<int>(header.size()))) {
      return absl::InternalError(
          absl::StrCat("a step header of ", header.size(), " bytes does not parse"));
    }
    return step;
  }

  absl::Status RunStep(const StepMessage& message) {
    TESSERA_ASSIGN_OR_RETURN(const v1::StepPlan step, Parse(message));
    TESSERA_RETURN_IF_ERROR(runner_.Check(step));
    const auto alive = [&] { return links_.KeepAlive(); };
    TESSERA_RETURN_IF_ERROR(runner_.Forward(step, message.activations(), alive));
    if (!links_.on_last_stage()) {
      TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> activations, runner_.Activations());
      TESSERA_RETURN_IF_ERROR(options_.clock->Moving([&] {
        return links_.SendToNextStage(StepMessageKind::kStep, message.header(), activations);
      }));
      return runner_.HandOn();
    }
    TESSERA_ASSIGN_OR_RETURN(const v1::StepResult result, runner_.Finish(step, alive));
    return links_.reports_results() ? links_.SendResult(result) : absl::OkStatus();
  }

  absl::Status EnqueueStep(const StepMessage& message) {
    TESSERA_ASSIGN_OR_RETURN(v1::StepPlan step, Parse(message));
    TESSERA_RETURN_IF_ERROR(runner_.CheckEnqueue(step));
    timeline_.Enqueued();
    return runner_.Enqueue(std::move(step), [&] { return links_.KeepAlive(); });
  }

  StepRunner& runner_;
  PipelineLinks& links_;
  const RankEngineOptions& options_;
  DeviceTimeline timeline_;
  std::deque<StepMessage> inbox_;
};

}  // namespace

absl::Status ServeAsFollower(StepRunner& runner, PipelineLinks& links,
                             const RankEngineOptions& options) {
  return Follower(runner, links, options).Run();
}

}  // namespace tessera::worker
