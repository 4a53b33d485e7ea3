// One rank's part of one step: its stage of the forward pass and, on the last stage, the tokens.
//
// Ownership: owns the decoder and its device; borrows the communicators. Threads: the engine
// thread. Collective over the stage's tensor-parallel ranks: each runs the same steps in the same
// order.
//
//   TESSERA_RETURN_IF_ERROR(runner.Forward(plan, activations, alive));  // of the stage before
//   if (last) TESSERA_ASSIGN_OR_RETURN(v1::StepResult result, runner.Finish(plan, alive));
//   else      Send(next, runner.Activations()), runner.HandOn();
//
// A single stage whose devices keep what they sample, and exchange it and the sums by themselves,
// is scheduled asynchronously: a step that only decodes is put on the device whole, behind the one
// that is running there, and its tokens are collected later.
//
//   if (runner.MayEnqueue(plan)) {
//     TESSERA_RETURN_IF_ERROR(runner.CheckEnqueue(plan));
//     TESSERA_RETURN_IF_ERROR(runner.Enqueue(plan, alive));
//   }
//   TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepResult> result, runner.TryCollect());
#ifndef TESSERA_WORKER_ENGINE_STEP_RUNNER_H_
#define TESSERA_WORKER_ENGINE_STEP_RUNNER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/comm/activation_link.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logprob_scorer.h"
#include "worker/engine/sampler.h"
#include "worker/engine/step_check.h"
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

  // Last stage, after Forward: samples tokens, scores prompts and collects logits. Complete on
  // tp_rank 0; the others take part and return all but the logits. `between`: see
  // Decoder::RunLayers; the output head over a long prompt takes as long as layers do.
  absl::StatusOr<v1::StepResult> Finish(const v1::StepPlan& step,
                                        absl::FunctionRef<absl::Status()> between);

  // Whether there may be two steps on the device. All ranks of a group say the same.
  bool async_scheduling() const { return async_scheduling_; }
  // Whether the step can be put on the device whole: one token of every sequence, at most
  // kMaxAsyncSequences, from whose row the device samples by itself, and nothing else asked for.
  // The plan need not be checked.
  bool MayEnqueue(const v1::StepPlan& step) const;
  // Whether that can be while the device is at work on the step before, without waiting for it.
  bool TakesBehind(const v1::StepPlan& step);
  // As Check, of a step that is to be enqueued: its ids may be placeholders for tokens of the step
  // that was enqueued last, if no other has been run since. INTERNAL for one that may not be
  // enqueued.
  absl::Status CheckEnqueue(const v1::StepPlan& step);
  // Starts a step that CheckEnqueue let pass; at most two are on the device, and nothing else.
  // `between` as in Forward. Collective.
  absl::Status Enqueue(v1::StepPlan step, absl::FunctionRef<absl::Status()> between);
  int under_way() const { return static_cast<int>(enqueued_.size()); }
  // The id of the oldest step under way; there is one.
  int64_t oldest_step_id() const { return enqueued_.front().plan.step_id(); }
  // Its result, complete on every rank, once it is there. Waits for nothing and nobody.
  absl::StatusOr<std::optional<v1::StepResult>> TryCollect();

  // What went wrong with the device or its exchange with others, without waiting: for those who wait
  // for a message meanwhile.
  absl::Status CheckDevice() { return links_.tp->Check(); }
  // Ends what the device waits for; nothing but the destructor may follow.
  void GiveUp(const absl::Status& why) { links_.tp->GiveUp(why); }

  std::string DeviceName() const { return device_->Name(); }

 private:
  StepRunner(const Setup& setup, std::unique_ptr<kernels::Device> device);

  // Devices keep room to sample for so many sequences; a step of more takes so long that what
  // the host does between two of them does not show.
  static constexpr int kMaxAsyncSequences = 256;

  using Between = absl::FunctionRef<absl::Status()>;
  // The rows of a step to sample from: each request with its row in the flattened batch.
  // Borrows the plan.
  struct SamplingRows {
    std::vector<SampleRequest> requests;
    std::vector<int64_t> rows;
  };
  struct Enqueued {
    v1::StepPlan plan;
    std::vector<SampleRequest> requests;
  };

  static void Flatten(const v1::StepPlan& step, TokenBatch& batch);
  static SamplingRows SamplingRowsOf(const v1::StepPlan& step);
  // The step's block copies and its tokens.
  absl::Status Begin(const v1::StepPlan& step);
  // `use` for as many rows at a time as the output head takes; the first of them is rows[first].
  static absl::Status InHeadGroups(
      absl::Span<const int64_t> rows, Between between,
      absl::FunctionRef<absl::Status(size_t first, absl::Span<const int64_t> group)> use);
  // Once, before the weights take the memory.
  absl::Status ReserveSampling(int64_t most_rows);
  absl::Status StartSampling(const SamplingRows& sampling, Between between);
  absl::Status SampleTokens(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status ScorePrompt(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status CollectLogits(const v1::StepPlan& step, Between between, v1::StepResult& result);
  absl::Status AppendLogits(absl::Span<const int64_t> rows, v1::ChunkLogits& out);

  Communicator* const tp_;
  const bool is_first_stage_;
  const std::vector<v1::Range> vocab_;  // of the stage's tp ranks
  std::unique_ptr<StepChecker> checker_;
  Sampler sampler_;
  LogprobScorer scorer_;
  std::unique_ptr<kernels::Device> device_;
  Links links_;
  std::unique_ptr<Decoder> decoder_;
  TokenBatch batch_;
  TokenBatch next_batch_;  // TakesBehind
  bool async_scheduling_ = false;
  std::deque<Enqueued> enqueued_;
  PendingTokens newest_tokens_;  // of the step enqueued last, until another is run
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_RUNNER_H_
