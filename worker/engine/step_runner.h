// One rank's part of one step: its stage of the forward pass and, on the last stage, the tokens.
//
// Ownership: owns the decoder and its device; borrows the communicators. Threads: the engine
// thread. Collective over the stage's tensor-parallel ranks: each runs the same steps in the same
// order.
//
//   TESSERA_RETURN_IF_ERROR(runner.Forward(plan, activations, alive));  // of the stage before
//   if (last) TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, runner.Finish(plan, alive));
//   else      Send(next, runner.Activations()), runner.HandOn();
#ifndef TESSERA_WORKER_ENGINE_STEP_RUNNER_H_
#define TESSERA_WORKER_ENGINE_STEP_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/comm/activation_link.h"
#include "worker/comm/communicator.h"
#include "worker/engine/sampler.h"
#include "worker/engine/step_check.h"
#include "worker/engine/target_scorer.h"
#include "worker/model/decoder.h"

namespace tessera::worker {

class StepRunner {
 public:
  struct Setup {
    const ModelFile* file = nullptr;
    const v1::ShardPlan* plan = nullptr;
    int world_rank = 0;
    Communicator* tp = nullptr;  // the stage's ranks
    Communicator* pp = nullptr;  // this tp_rank's ranks, by stage
    bool device_links = false;   // NCCL; else through host memory
    absl::Duration deadline = absl::Seconds(60);  // of the links
    LoadProgress progress;
  };
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(
      const Setup& setup, std::unique_ptr<kernels::Device> device);

  // INVALID_ARGUMENT when the step may not be run (step_check.h).
  absl::Status Check(const v1::StepPlan& step) { return checker_->Check(step); }

  // Makes the step's block copies, then runs this stage's layers over its tokens. incoming:
  // (n, hidden) float32 of the stage before; ignored on the first. `between`: Decoder::RunLayers.
  absl::Status Forward(const v1::StepPlan& step, absl::Span<const std::byte> incoming,
                       absl::FunctionRef<absl::Status()> between);

  // (n, hidden) after Forward: what the next stage needs with the step's header. Empty where they go
  // from device to device: HandOn sends them, after the header. Valid until the next step.
  absl::StatusOr<absl::Span<const float>> Activations() {
    if (links_.stage != nullptr) return absl::Span<const float>();
    return decoder_->ReadHidden();
  }
  absl::Status HandOn() {
    return links_.stage != nullptr ? decoder_->SendHidden(*links_.stage) : absl::OkStatus();
  }

  // Last stage, after Forward: draws tokens, scores targets and collects logits. Complete on tp_rank
  // 0; the others take part and return all but the logits. `between`: see Decoder::RunLayers; the
  // output head over a long prompt's targets takes as long as layers do.
  absl::StatusOr<v1::StepResult> Finish(const v1::StepPlan& step,
                                        absl::FunctionRef<absl::Status()> between);

  // What went wrong with the device or its exchange with others, without waiting: for those who wait
  // for a message meanwhile.
  absl::Status CheckDevice() { return links_.tp->Check(); }

  std::string DeviceName() const { return device_->Name(); }

 private:
  StepRunner(const Setup& setup, std::unique_ptr<kernels::Device> device);

  using Between = absl::FunctionRef<absl::Status()>;

  void Flatten(const v1::StepPlan& step);
  absl::Status DrawTokens(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status ScoreTargets(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status CollectLogits(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status AppendLogits(absl::Span<const int64_t> rows, v1::ChunkLogits& out);

  Communicator* const tp_;
  const bool is_first_stage_;
  const std::vector<v1::Range> vocab_;  // of the stage's tp ranks
  std::unique_ptr<StepChecker> checker_;
  Sampler sampler_;
  TargetScorer scorer_;
  std::unique_ptr<kernels::Device> device_;
  Links links_;
  std::unique_ptr<Decoder> decoder_;
  TokenBatch batch_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_RUNNER_H_
