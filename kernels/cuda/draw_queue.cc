#include "kernels/cuda/draw_queue.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "Draws";

}  // namespace

size_t DrawQueue::PartBytes(int64_t rows, bool lists) {
  const size_t bytes = static_cast<size_t>(rows) *
                       (sizeof(RowResult) + (lists ? kMaxCandidates * sizeof(RowCandidate) : 0));
  return (bytes + sizeof(RowResult) - 1) / sizeof(RowResult) * sizeof(RowResult);
}

// Of each slot the member's own part, then all of them.
size_t DrawQueue::GroupBytes(int size, int64_t rows) const {
  return kSlots * (1 + static_cast<size_t>(size)) * PartBytes(rows, /*lists=*/true);
}

absl::Status DrawQueue::Reserve(int64_t rows, DrawGroup group) {
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

bool DrawQueue::Grow(Slot& slot, int64_t rows) {
  const size_t requests = static_cast<size_t>(rows) * sizeof(RowRequest);
  const size_t part = PartBytes(rows, /*lists=*/true);
  return slot.device.Grow(errors_, kOperation, requests + (in_group() ? 0 : part), outgrown_) &&
         slot.host.Grow(errors_, kOperation, requests + group_.size * part, outgrown_);
}

bool DrawQueue::Holds(int64_t rows) const {
  if (in_group()) return rows <= group_rows_;
  return slots_[begun_ % kSlots].device.bytes() >=
         rows * sizeof(RowRequest) + PartBytes(rows, /*lists=*/true);
}

absl::Status DrawQueue::Begin(absl::Span<const RowQuestion> questions) {
  if (under_way() == kSlots) {
    return errors_.Fail(kOperation, absl::StatusCode::kInternal,
                        absl::StrCat("expected at most ", kSlots, " batches under way"));
  }
  const auto rows = static_cast<int64_t>(questions.size());
  if (in_group() && !Holds(rows)) {
    return errors_.Fail(
        kOperation, absl::StatusCode::kInternal,
        absl::StrCat("expected at most ", group_rows_, " rows at once, got ", rows));
  }
  Slot& slot = slots_[begun_ % kSlots];
  if (!Holds(rows) && !Grow(slot, static_cast<int64_t>(std::bit_ceil(questions.size())))) {
    return errors_.first();
  }
  if (!in_group()) slot.mine = slot.all = slot.device.data() + rows * sizeof(RowRequest);
  slot.rows = rows;
  slot.lists = false;
  RowRequest* const requests = Requests(slot.host.data());
  for (int64_t i = 0; i < rows; ++i) {
    const RowQuestion& q = questions[i];
    requests[i] = {q.seed, q.position, q.temperature, q.num_candidates};
    slot.lists = slot.lists || q.num_candidates > 0;
  }
  errors_.Check(kOperation, "cudaMemcpyAsync",
                cudaMemcpyAsync(slot.device.data(), requests, rows * sizeof(RowRequest),
                                cudaMemcpyHostToDevice, stream_));
  ++begun_;
  return errors_.first();
}

void DrawQueue::Draw(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
                     int64_t count) {
  if (!errors_.ok()) return;
  const Slot& slot = Newest();
  errors_.CheckLaunch(
      kOperation,
      LaunchSampleRows(logits, count, vocab, first_id, Requests(slot.device.data()) + first,
                       reinterpret_cast<RowResult*>(slot.mine) + first,
                       slot.lists ? Candidates(slot.mine, slot.rows) + first * kMaxCandidates
                                  : nullptr,
                       stream_));
}

absl::Status DrawQueue::End() {
  Slot& slot = Newest();
  const size_t part = PartBytes(slot.rows, slot.lists);
  if (errors_.ok() && in_group()) {
    if (absl::Status put = group_.gather(slot.mine, part, slot.all); !put.ok()) return put;
  }
  std::byte* const to = slot.host.data() + slot.rows * sizeof(RowRequest);
  if (errors_.ok() &&
      errors_.Check(kOperation, "cudaMemcpyAsync",
                    cudaMemcpyAsync(to, slot.all, group_.size * part, cudaMemcpyDeviceToHost,
                                    stream_))) {
    slot.copied.Record(errors_, kOperation, stream_);
  }
  return errors_.first();
}

absl::StatusOr<bool> DrawQueue::Arrived() {
  bool arrived = false;
  if (!Oldest().copied.Query(errors_, kOperation, arrived)) return errors_.first();
  return arrived;
}

DrawnRows DrawQueue::newest() const {
  if (begun_ == 0) return {};
  const Slot& slot = Newest();
  return {.results = reinterpret_cast<const RowResult*>(slot.all),
          .rows = slot.rows,
          .ranks = group_.size,
          .pitch = static_cast<int64_t>(PartBytes(slot.rows, slot.lists) / sizeof(RowResult))};
}

absl::Status DrawQueue::Collect(RowAnswer* answers, kernels::RowCandidate* candidates) {
  const Slot& slot = Oldest();
  const RowRequest* const requests = Requests(slot.host.data());
  std::byte* part = slot.host.data() + slot.rows * sizeof(RowRequest);
  for (int rank = 0; rank < group_.size; ++rank) {
    const auto* const results = reinterpret_cast<const RowResult*>(part);
    const cuda::RowCandidate* const listed = Candidates(part, slot.rows);
    for (int64_t i = 0; i < slot.rows; ++i) {
      const RowResult& r = results[i];
      *answers++ = {.finite = r.id >= 0,
                    .score = r.score,
                    .id = r.id,
                    .logit = r.logit,
                    .greedy_id = r.greedy_id,
                    .greedy_logit = r.greedy_logit,
                    .raw_mass = r.raw_mass,
                    .scaled_mass = r.scaled_mass};
      for (int c = 0; c < requests[i].candidates; ++c) {
        const cuda::RowCandidate& candidate = listed[i * kMaxCandidates + c];
        candidates[c] = {candidate.logit, candidate.id};
      }
      candidates += kMaxCandidates;
    }
    part += PartBytes(slot.rows, slot.lists);
  }
  ++collected_;
  return errors_.first();
}

}  // namespace tessera::kernels::cuda
