#include "kernels/cuda/sampling_queue.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "SampleRows";

}  // namespace

size_t CudaSamplingQueue::PartBytes(int64_t rows, bool lists) {
  const size_t bytes = static_cast<size_t>(rows) *
                       (sizeof(SampledRow) + (lists ? kMaxCandidates * sizeof(Candidate) : 0));
  return (bytes + sizeof(SampledRow) - 1) / sizeof(SampledRow) * sizeof(SampledRow);
}

// For each slot the member's own part, then all of them.
size_t CudaSamplingQueue::GroupBytes(int size, int64_t rows) const {
  return kSlots * (1 + static_cast<size_t>(size)) * PartBytes(rows, /*lists=*/true);
}

absl::Status CudaSamplingQueue::Reserve(int64_t rows, SamplingGroup group) {
  group_ = std::move(group);
  group_rows_ = rows;
  std::byte* next = group_.memory;
  for (Slot& slot : slots_) {
    if (!Grow(slot, rows)) return errors_.first();
    if (!in_group()) continue;
    slot.mine = next;
    slot.all = slot.mine + PartBytes(rows, /*lists=*/true);
    next = slot.all + group_.size * PartBytes(rows, /*lists=*/true);
  }
  return errors_.first();
}

bool CudaSamplingQueue::Grow(Slot& slot, int64_t rows) {
  const size_t requests = static_cast<size_t>(rows) * sizeof(SampleRow);
  const size_t part = PartBytes(rows, /*lists=*/true);
  return slot.device.Grow(errors_, kOperation, requests + (in_group() ? 0 : part), outgrown_) &&
         slot.host.Grow(errors_, kOperation, requests + group_.size * part, outgrown_);
}

bool CudaSamplingQueue::Holds(int64_t rows) const {
  if (in_group()) return rows <= group_rows_;
  return slots_[begun_ % kSlots].device.bytes() >=
         rows * sizeof(SampleRow) + PartBytes(rows, /*lists=*/true);
}

absl::Status CudaSamplingQueue::Begin(absl::Span<const SampleRow> rows) {
  if (under_way() == kSlots) {
    return errors_.Fail(kOperation, absl::StatusCode::kInternal,
                        absl::StrCat("expected at most ", kSlots, " batches under way"));
  }
  const auto count = static_cast<int64_t>(rows.size());
  if (in_group() && !Holds(count)) {
    return errors_.Fail(
        kOperation, absl::StatusCode::kInternal,
        absl::StrCat("expected at most ", group_rows_, " rows at once, got ", count));
  }
  Slot& slot = slots_[begun_ % kSlots];
  if (!Holds(count) && !Grow(slot, static_cast<int64_t>(std::bit_ceil(rows.size())))) {
    return errors_.first();
  }
  if (!in_group()) slot.mine = slot.all = slot.device.data() + count * sizeof(SampleRow);
  slot.rows = count;
  std::copy(rows.begin(), rows.end(), Rows(slot.host.data()));
  slot.lists = std::any_of(rows.begin(), rows.end(),
                           [](const SampleRow& row) { return row.num_candidates > 0; });
  errors_.Check(kOperation, "cudaMemcpyAsync",
                cudaMemcpyAsync(slot.device.data(), slot.host.data(), count * sizeof(SampleRow),
                                cudaMemcpyHostToDevice, stream_));
  ++begun_;
  return errors_.first();
}

void CudaSamplingQueue::Sample(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
                               int64_t count) {
  if (!errors_.ok()) return;
  const Slot& slot = Newest();
  errors_.CheckLaunch(
      kOperation,
      LaunchSampleRows(
          logits, count, vocab, first_id, Rows(slot.device.data()) + first,
          reinterpret_cast<SampledRow*>(slot.mine) + first,
          slot.lists ? Candidates(slot.mine, slot.rows) + first * kMaxCandidates : nullptr,
          stream_));
}

absl::Status CudaSamplingQueue::End() {
  Slot& slot = Newest();
  const size_t part = PartBytes(slot.rows, slot.lists);
  if (errors_.ok() && in_group()) {
    if (absl::Status put = group_.gather(slot.mine, part, slot.all); !put.ok()) return put;
  }
  std::byte* const to = slot.host.data() + slot.rows * sizeof(SampleRow);
  if (errors_.ok() &&
      errors_.Check(kOperation, "cudaMemcpyAsync",
                    cudaMemcpyAsync(to, slot.all, group_.size * part, cudaMemcpyDeviceToHost,
                                    stream_))) {
    slot.copied.Record(errors_, kOperation, stream_);
  }
  return errors_.first();
}

absl::StatusOr<bool> CudaSamplingQueue::Arrived() {
  bool arrived = false;
  if (!Oldest().copied.Query(errors_, kOperation, arrived)) return errors_.first();
  return arrived;
}

RankSamples CudaSamplingQueue::newest() const {
  if (begun_ == 0) return {};
  const Slot& slot = Newest();
  return {.sampled = reinterpret_cast<const SampledRow*>(slot.all),
          .rows = slot.rows,
          .ranks = group_.size,
          .pitch = static_cast<int64_t>(PartBytes(slot.rows, slot.lists) / sizeof(SampledRow))};
}

absl::Status CudaSamplingQueue::Collect(SampledRow* sampled, Candidate* candidates) {
  const Slot& slot = Oldest();
  const SampleRow* const rows = Rows(slot.host.data());
  std::byte* part = slot.host.data() + slot.rows * sizeof(SampleRow);
  for (int rank = 0; rank < group_.size; ++rank) {
    const auto* const theirs = reinterpret_cast<const SampledRow*>(part);
    sampled = std::copy(theirs, theirs + slot.rows, sampled);
    const Candidate* listed = Candidates(part, slot.rows);
    for (int64_t i = 0; i < slot.rows; ++i) {
      std::copy_n(listed + i * kMaxCandidates, rows[i].num_candidates, candidates);
      candidates += kMaxCandidates;
    }
    part += PartBytes(slot.rows, slot.lists);
  }
  ++collected_;
  return errors_.first();
}

}  // namespace tessera::kernels::cuda
