// The Draws of a GPU: two slots that take turns, each with its questions and answers on the GPU and
// in pinned memory and one event for their way back.
//
// A slot's memory on the GPU stays where it is while the other one is filled, so the step behind
// can read there what was drawn (LaunchFeedDrawn). Holds says whether the next one need not grow.
//
//   slot := requests (rows), part of rank 0, part of rank 1, ...     a GPU alone has one part
//   part := results (rows), candidates (rows, kMaxCandidates) if any row asks for some, padding
//
// A part is as long as a whole number of results, so that a rank's results are found from
// another's. In a group each member draws into a part of its own, from which all are gathered.
//
//   DrawQueue draws(errors, stream, outgrown);
//   draws.Begin(questions); draws.Draw(...); draws.End();
//   LaunchFeedDrawn(draws.newest(), n, ids, stream);   // of the next step
#ifndef TESSERA_KERNELS_CUDA_DRAW_QUEUE_H_
#define TESSERA_KERNELS_CUDA_DRAW_QUEUE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/draws.h"

namespace tessera::kernels::cuda {

class DrawQueue final : public Draws {
 public:
  // outgrown: where memory goes that was too small.
  DrawQueue(CudaErrors& errors, cudaStream_t stream, Outgrown& outgrown)
      : errors_(errors), stream_(stream), outgrown_(outgrown) {}

  size_t GroupBytes(int size, int64_t rows) const override;
  absl::Status Reserve(int64_t rows, DrawGroup group) override;
  absl::Status Begin(absl::Span<const RowQuestion> questions) override;
  void Draw(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
            int64_t count) override;
  absl::Status End() override;
  absl::StatusOr<bool> Arrived() override;
  absl::Status Collect(RowAnswer* answers, kernels::RowCandidate* candidates) override;

  // Whether there is room for a batch of that many questions.
  bool Holds(int64_t rows) const;
  // On the GPU: what the batch begun last draws. No rows before the first one.
  DrawnRows newest() const;

 private:
  static constexpr int kSlots = 2;
  struct Slot {
    DeviceMemory device;  // requests and, of a GPU alone, its part
    PinnedMemory host;    // as the slot
    Event copied;
    std::byte* mine = nullptr;  // on the GPU: this rank's part
    std::byte* all = nullptr;   // and every rank's: the same of a GPU alone
    int64_t rows = 0;
    bool lists = false;  // candidates of any row
  };

  // Of one rank's part.
  static size_t PartBytes(int64_t rows, bool lists);
  static RowRequest* Requests(std::byte* slot) { return reinterpret_cast<RowRequest*>(slot); }
  static kernels::cuda::RowCandidate* Candidates(std::byte* part, int64_t rows) {
    return reinterpret_cast<kernels::cuda::RowCandidate*>(part + rows * sizeof(RowResult));
  }

  bool in_group() const { return group_.size > 1; }
  bool Grow(Slot& slot, int64_t rows);
  Slot& Newest() { return slots_[(begun_ + kSlots - 1) % kSlots]; }
  const Slot& Newest() const { return slots_[(begun_ + kSlots - 1) % kSlots]; }
  Slot& Oldest() { return slots_[collected_ % kSlots]; }
  int64_t under_way() const { return begun_ - collected_; }

  CudaErrors& errors_;
  const cudaStream_t stream_;
  Outgrown& outgrown_;
  DrawGroup group_;
  int64_t group_rows_ = 0;  // the most at once
  Slot slots_[kSlots];
  int64_t begun_ = 0;      // batches so far
  int64_t collected_ = 0;  // of these
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_DRAW_QUEUE_H_
