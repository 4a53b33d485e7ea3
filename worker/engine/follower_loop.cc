// The loop of every rank but the leader (serve_loops.h).
#include "absl/strings/str_cat.h"
#include "proto/wire/status_macros.h"
#include "worker/engine/serve_loops.h"

namespace tessera::worker {
namespace {

absl::Status RunStep(StepRunner& runner, PipelineLinks& links, StepClock& clock,
                     const StepMessage& message) {
  const absl::string_view header = message.header();
  v1::StepPlan step;
  if (!step.ParseFromArray(header.data(), static_cast<int>(header.size()))) {
    return absl::InternalError(
        absl::StrCat("a step header of ", header.size(), " bytes does not parse"));
  }
  TESSERA_RETURN_IF_ERROR(runner.Check(step));
  const auto alive = [&] { return links.KeepAlive(); };
  TESSERA_RETURN_IF_ERROR(runner.Forward(step, message.activations(), alive));
  if (!links.on_last_stage()) {
    TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> activations, runner.Activations());
    TESSERA_RETURN_IF_ERROR(clock.Moving([&] {
      return links.SendToNextStage(StepMessageKind::kStep, header, activations);
    }));
    return runner.HandOn();
  }
  TESSERA_ASSIGN_OR_RETURN(const v1::StepResult result, runner.Finish(step, alive));
  return links.reports_results() ? links.SendResult(result) : absl::OkStatus();
}

}  // namespace

absl::Status ServeAsFollower(StepRunner& runner, PipelineLinks& links, StepClock& clock) {
  while (true) {
    TESSERA_ASSIGN_OR_RETURN(const StepMessage message, links.ReceiveStep());
    switch (message.kind()) {
      case StepMessageKind::kStep:
        clock.BeginStep(/*others_work=*/!links.on_first_stage());
        TESSERA_RETURN_IF_ERROR(RunStep(runner, links, clock, message));
        clock.EndStep();
        break;
      case StepMessageKind::kHeartbeat:
        TESSERA_RETURN_IF_ERROR(runner.CheckDevice());
        TESSERA_RETURN_IF_ERROR(links.SendHeartbeat());
        break;
      case StepMessageKind::kEnd:
        return links.SendToNextStage(message.kind(), message.header());
      case StepMessageKind::kAbort:
        TESSERA_RETURN_IF_ERROR(links.SendToNextStage(message.kind(), message.header()));
        return absl::AbortedError(absl::StrCat("the leader gave up: ", message.header()));
      case StepMessageKind::kResult:
        return absl::InternalError("a step result came down the pipeline; expected a step");
    }
  }
}

}  // namespace tessera::worker
