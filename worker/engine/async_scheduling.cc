// StepRunner's asynchronously scheduled steps (step_runner.h).
#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "worker/engine/logit_batch.h"
#include "worker/engine/step_runner.h"

namespace tessera::worker {

bool StepRunner::MayEnqueue(const v1::StepPlan& step) const {
  if (!async_scheduling_ || step.chunks_size() > kMaxAsyncSequences) return false;
  const int max_candidates = device_->MaxCandidates();
  return std::all_of(step.chunks().begin(), step.chunks().end(), [&](const auto& chunk) {
    return chunk.token_ids_size() == 1 && chunk.has_sampling() && !chunk.return_logits() &&
           chunk.prompt_logprob_ids_size() == 0 &&
           sampler_.IsSampledByDevice(
               {.params = &chunk.sampling(), .logits_state = &chunk.logits_state()},
               max_candidates);
  });
}

bool StepRunner::TakesBehind(const v1::StepPlan& step) {
  Flatten(step, next_batch_);
  return decoder_->TakesBehind(next_batch_);
}

absl::Status StepRunner::ReserveSampling(int64_t most_rows) {
  kernels::SamplingQueue& queue = *device_->sampling_queue();
  kernels::SamplingGroup group{.size = tp_->size(), .memory = nullptr, .gather = nullptr};
  if (group.size > 1) {
    TESSERA_ASSIGN_OR_RETURN(group.memory,
                             links_.tp->Allocate(queue.GroupBytes(group.size, most_rows)));
    group.gather = [link = links_.tp.get()](const std::byte* mine, size_t bytes, std::byte* all) {
      return link->AllGather(mine, bytes, all);
    };
  }
  return queue.Reserve(most_rows, std::move(group));
}

absl::Status StepRunner::CheckEnqueue(const v1::StepPlan& step) {
  if (!MayEnqueue(step)) {
    return absl::InternalError(absl::StrCat("step ", step.step_id(), ": expected one that this ",
                                            "rank can schedule asynchronously"));
  }
  return checker_->Check(step, newest_tokens_);
}

absl::Status StepRunner::Enqueue(v1::StepPlan step, Between between) {
  TESSERA_RETURN_IF_ERROR(Begin(step));
  TESSERA_RETURN_IF_ERROR(decoder_->Embed());
  TESSERA_RETURN_IF_ERROR(decoder_->StartLayers(between));
  Enqueued& enqueued = enqueued_.emplace_back();
  enqueued.plan = std::move(step);
  SamplingRows sampling = SamplingRowsOf(enqueued.plan);
  TESSERA_RETURN_IF_ERROR(StartSampling(sampling, between));
  enqueued.requests = std::move(sampling.requests);
  newest_tokens_ = {.step_id = enqueued.plan.step_id(), .count = enqueued.requests.size()};
  return absl::OkStatus();
}

absl::Status StepRunner::StartSampling(const SamplingRows& sampling, Between between) {
  const auto& [requests, rows] = sampling;
  kernels::SamplingQueue& queue = *device_->sampling_queue();
  std::vector<kernels::SampleRow> asked;
  asked.reserve(requests.size());
  for (const SampleRequest& request : requests) asked.push_back(sampler_.SampleRowOf(request));
  TESSERA_RETURN_IF_ERROR(queue.Begin(asked));
  TESSERA_RETURN_IF_ERROR(
      InHeadGroups(rows, between, [&](size_t first, absl::Span<const int64_t> group) {
        decoder_->ComputeLogits(group);
        queue.Sample(decoder_->device_logits(), decoder_->local_vocab_size(),
                     vocab_[tp_->rank()].begin(), static_cast<int64_t>(first),
                     static_cast<int64_t>(group.size()));
        return absl::OkStatus();
      }));
  return queue.End();
}

absl::StatusOr<std::optional<v1::StepResult>> StepRunner::TryCollect() {
  if (enqueued_.empty()) return std::nullopt;
  TESSERA_ASSIGN_OR_RETURN(const bool arrived, device_->sampling_queue()->Arrived());
  if (!arrived) return std::nullopt;
  const Enqueued& step = enqueued_.front();
  v1::StepResult result;
  result.set_step_id(step.plan.step_id());
  SampledLogits logits(device_->sampling_queue(), device_->MaxCandidates());
  absl::StatusOr<std::vector<v1::SampledToken>> tokens =
      sampler_.TakeSampled(step.requests, logits);
  if (!tokens.ok()) {
    return Annotate(tokens.status(), absl::StrCat("step ", result.step_id()));
  }
  for (v1::SampledToken& token : *tokens) *result.add_tokens() = std::move(token);
  enqueued_.pop_front();
  return result;
}

}  // namespace tessera::worker
