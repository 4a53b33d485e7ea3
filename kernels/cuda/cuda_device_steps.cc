// Steps on a GPU: how one begins, recorded ones, and sampling at its end.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device_impl.h"

namespace tessera::kernels::cuda {
namespace {

// Steps of at most this many tokens, none of them a prompt's longer piece, are recorded.
constexpr int64_t kMostReplayRows = 256;

}  // namespace

absl::StatusOr<int64_t> CudaDevice::BeginStep(const StepView& step) {
  if (!upload_->Release()) return errors_.first();  // the weights are loaded
  replayable_ = IsReplayable(step);
  const int64_t rows = replayable_ ? Bucket(step.n) : step.n;
  slot_ = replayable_ ? &short_steps_ : &long_steps_;
  StepCapacity need = CapacityFor(step, rows, step.largest_group, step.sliding_window);
  bool moved = false;
  if (!slot_->Grow(errors_, need, outgrown_, moved)) return errors_.first();
  if (moved && replayable_) graphs_->Retire();
  if (!slot_->Upload(errors_, step, rows, stream_, counts_)) return errors_.first();
  if (!FillPlaceholders(step)) return errors_.first();
  arrays_ = slot_->Arrays(step);
  largest_group_ = step.largest_group;
  return rows;
}

bool CudaDevice::TakesBehind(const StepView& step) const {
  if (!errors_.ok() || !IsReplayable(step)) return false;
  const int64_t rows = Bucket(step.n);
  return graphs_->Knows(rows) && sampling_queue_->Holds(step.n) &&
         short_steps_.Holds(CapacityFor(step, rows, step.largest_group, step.sliding_window));
}

int64_t CudaDevice::MaxRows(int64_t n) const {
  return std::max(n, Bucket(std::min(n, kMostReplayRows)));
}

absl::Status CudaDevice::Replayable(int key, int64_t n, absl::FunctionRef<absl::Status()> work) {
  if (!errors_.ok()) return errors_.first();
  if (!replayable_) return work();
  return graphs_->Run(key, n, work);
}

absl::Status CudaDevice::SampleRows(const float* logits, int64_t vocab, int32_t first_id,
                                    absl::Span<const SampleRow> rows, SampledRow* sampled,
                                    Candidate* candidates) {
  if (!errors_.ok() || rows.empty()) return errors_.first();
  if (absl::Status begun = sampled_now_->Begin(rows); !begun.ok()) return begun;
  sampled_now_->Sample(logits, vocab, first_id, 0, static_cast<int64_t>(rows.size()));
  if (absl::Status ended = sampled_now_->End(); !ended.ok()) return ended;
  if (absl::Status waited = Wait("SampleRows"); !waited.ok()) return waited;
  return sampled_now_->Collect(sampled, candidates);
}

bool CudaDevice::IsReplayable(const StepView& step) {
  if (step.n < 1 || step.n > kMostReplayRows) return false;
  return std::all_of(step.sequences, step.sequences + step.num_sequences,
                     [](const SequenceSpan& s) { return s.num_tokens < kPrefillTokens; });
}

bool CudaDevice::FillPlaceholders(const StepView& step) {
  constexpr char kOperation[] = "BeginStep";
  const int32_t* const end = step.ids != nullptr ? step.ids + step.n : step.ids;
  const int32_t* const least = std::min_element(step.ids, end);
  if (least == end || *least >= 0) return errors_.ok();
  const RankSamples samples = sampling_queue_->newest();
  if (-int64_t{*least} > samples.rows) {
    errors_.Fail(
        kOperation, absl::StatusCode::kInternal,
        absl::StrCat("token id ", *least, "; the rows sampled before the step are ", samples.rows));
    return false;
  }
  return errors_.CheckLaunch(kOperation,
                             LaunchFillPlaceholders(samples, step.n, slot_->MutableIds(), stream_));
}

}  // namespace tessera::kernels::cuda
