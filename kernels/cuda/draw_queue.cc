#include "kernels/cuda/draw_queue.h"

#include <bit>

#include "absl/strings/str_cat.h"

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "Draws";

}  // namespace

size_t DrawQueue::BytesFor(int64_t rows) {
  return static_cast<size_t>(rows) *
         (sizeof(RowRequest) + sizeof(RowResult) + kMaxCandidates * sizeof(cuda::RowCandidate));
}

RowResult* DrawQueue::Results(const Slot& slot, std::byte* memory) {
  return reinterpret_cast<RowResult*>(memory + slot.rows * sizeof(RowRequest));
}

cuda::RowCandidate* DrawQueue::Candidates(const Slot& slot, std::byte* memory) {
  return reinterpret_cast<cuda::RowCandidate*>(Results(slot, memory) + slot.rows);
}

bool DrawQueue::Holds(int64_t rows) const {
  return slots_[begun_ % kSlots].device.bytes() >= BytesFor(rows);
}

absl::Status DrawQueue::Begin(absl::Span<const RowQuestion> questions) {
  if (under_way() == kSlots) {
    return errors_.Fail(kOperation, absl::StatusCode::kInternal,
                        absl::StrCat("expected at most ", kSlots, " batches under way"));
  }
  Slot& slot = slots_[begun_ % kSlots];
  const auto rows = static_cast<int64_t>(questions.size());
  const size_t bytes = BytesFor(static_cast<int64_t>(std::bit_ceil(questions.size())));
  if (!slot.device.Grow(errors_, kOperation, bytes, outgrown_) ||
      !slot.host.Grow(errors_, kOperation, bytes, outgrown_)) {
    return errors_.first();
  }
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
  std::byte* const memory = slot.device.data();
  errors_.CheckLaunch(
      kOperation,
      LaunchSampleRows(
          logits, count, vocab, first_id, Requests(memory) + first, Results(slot, memory) + first,
          slot.lists ? Candidates(slot, memory) + first * kMaxCandidates : nullptr, stream_));
}

absl::Status DrawQueue::End() {
  Slot& slot = Newest();
  const RowResult* const drawn = newest();
  const size_t bytes = slot.rows * (sizeof(RowResult) +
                                    (slot.lists ? kMaxCandidates * sizeof(cuda::RowCandidate) : 0));
  if (errors_.ok() && errors_.Check(kOperation, "cudaMemcpyAsync",
                                    cudaMemcpyAsync(Results(slot, slot.host.data()), drawn, bytes,
                                                    cudaMemcpyDeviceToHost, stream_))) {
    slot.copied.Record(errors_, kOperation, stream_);
  }
  return errors_.first();
}

absl::StatusOr<bool> DrawQueue::Arrived() {
  bool arrived = false;
  if (!Oldest().copied.Query(errors_, kOperation, arrived)) return errors_.first();
  return arrived;
}

absl::Status DrawQueue::Collect(RowAnswer* answers, kernels::RowCandidate* candidates) {
  const Slot& slot = Oldest();
  const RowRequest* const requests = Requests(slot.host.data());
  const RowResult* const results = Results(slot, slot.host.data());
  const cuda::RowCandidate* const listed = Candidates(slot, slot.host.data());
  for (int64_t i = 0; i < slot.rows; ++i) {
    const RowResult& r = results[i];
    answers[i] = {.finite = r.id >= 0,
                  .score = r.score,
                  .id = r.id,
                  .logit = r.logit,
                  .greedy_id = r.greedy_id,
                  .greedy_logit = r.greedy_logit,
                  .raw_mass = r.raw_mass,
                  .scaled_mass = r.scaled_mass};
    for (int64_t c = i * kMaxCandidates; c < i * kMaxCandidates + requests[i].candidates; ++c) {
      candidates[c] = {listed[c].logit, listed[c].id};
    }
  }
  ++collected_;
  return errors_.first();
}

}  // namespace tessera::kernels::cuda
