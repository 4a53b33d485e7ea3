// The Draws of a GPU: two slots that take turns, each with its questions and answers on the GPU and
// in pinned memory and one event for their way back.
//
// A slot's memory on the GPU stays where it is while the other one is filled, so the step behind
// can read there what was drawn (LaunchFeedDrawn). Holds says whether the next one need not grow.
//
//   DrawQueue draws(errors, stream, outgrown);
//   draws.Begin(questions); draws.Draw(...); draws.End();
//   LaunchFeedDrawn(draws.newest(), draws.newest_rows(), n, ids, stream);   // of the next step
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

  absl::Status Begin(absl::Span<const RowQuestion> questions) override;
  void Draw(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
            int64_t count) override;
  absl::Status End() override;
  absl::StatusOr<bool> Arrived() override;
  absl::Status Collect(RowAnswer* answers, kernels::RowCandidate* candidates) override;

  // Whether there is room for a batch of that many questions.
  bool Holds(int64_t rows) const;
  // On the GPU: what the batch begun last draws. (newest_rows())
  const RowResult* newest() const { return Results(Newest(), Newest().device.data()); }
  int64_t newest_rows() const { return begun_ == 0 ? 0 : Newest().rows; }

 private:
  static constexpr int kSlots = 2;
  // One after the other: requests (rows), results (rows), candidates (rows, kMaxCandidates).
  struct Slot {
    DeviceMemory device;
    PinnedMemory host;
    Event copied;
    int64_t rows = 0;
    bool lists = false;  // candidates of any row
  };

  static size_t BytesFor(int64_t rows);
  static RowRequest* Requests(std::byte* memory) { return reinterpret_cast<RowRequest*>(memory); }
  static RowResult* Results(const Slot& slot, std::byte* memory);
  static kernels::cuda::RowCandidate* Candidates(const Slot& slot, std::byte* memory);

  Slot& Newest() { return slots_[(begun_ + kSlots - 1) % kSlots]; }
  const Slot& Newest() const { return slots_[(begun_ + kSlots - 1) % kSlots]; }
  Slot& Oldest() { return slots_[collected_ % kSlots]; }
  int64_t under_way() const { return begun_ - collected_; }

  CudaErrors& errors_;
  const cudaStream_t stream_;
  Outgrown& outgrown_;
  Slot slots_[kSlots];
  int64_t begun_ = 0;      // batches so far
  int64_t collected_ = 0;  // of these
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_DRAW_QUEUE_H_
