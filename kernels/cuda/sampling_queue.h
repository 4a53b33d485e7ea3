// The SamplingQueue of a GPU: two slots, filled in turns, each with its rows to sample and what was
// sampled from them on the GPU and in pinned memory and one event for their way back.
//
// A slot's memory on the GPU stays where it is while the other one is filled, so the step behind
// can read there what was sampled (LaunchFillPlaceholders). Holds says whether the next one need
// not grow.
//
//   slot := SampleRow (rows), part of rank 0, part of rank 1, ...    a GPU alone has one part
//   part := SampledRow (rows), Candidate (rows, kMaxCandidates) if any row asks for some, padding
//
// A part is as long as a whole number of SampledRows, so that a rank's are found from another's. In
// a group each member samples into a part of its own, from which all are gathered.
//
//   CudaSamplingQueue queue(errors, stream, outgrown);
//   queue.Begin(rows); queue.Sample(...); queue.End();
//   LaunchFillPlaceholders(queue.newest(), n, ids, stream);   // of the next step
#ifndef TESSERA_KERNELS_CUDA_SAMPLING_QUEUE_H_
#define TESSERA_KERNELS_CUDA_SAMPLING_QUEUE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/sampling_queue.h"

namespace tessera::kernels::cuda {

class CudaSamplingQueue final : public SamplingQueue {
 public:
  // outgrown: where memory goes that was too small.
  CudaSamplingQueue(CudaErrors& errors, cudaStream_t stream, Outgrown& outgrown)
      : errors_(errors), stream_(stream), outgrown_(outgrown) {}

  size_t GroupBytes(int size, int64_t rows) const override;
  absl::Status Reserve(int64_t rows, SamplingGroup group) override;
  absl::Status Begin(absl::Span<const SampleRow> rows) override;
  void Sample(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
              int64_t count) override;
  absl::Status End() override;
  absl::StatusOr<bool> Arrived() override;
  absl::Status Collect(SampledRow* sampled, Candidate* candidates) override;

  // Whether there is room for a batch of that many rows.
  bool Holds(int64_t rows) const;
  // On the GPU: what is sampled for the batch begun last. No rows before the first one.
  RankSamples newest() const;

 private:
  static constexpr int kSlots = 2;
  struct Slot {
    DeviceBuffer device;  // rows to sample and, of a GPU alone, its part
    PinnedMemory host;    // as the slot
    Event copied;
    std::byte* mine = nullptr;  // on the GPU: this rank's part
    std::byte* all = nullptr;   // every rank's; of a GPU alone its own
    int64_t rows = 0;
    bool lists = false;  // candidates of any row
  };

  // The length of one rank's part.
  static size_t PartBytes(int64_t rows, bool lists);
  static SampleRow* Rows(std::byte* slot) { return reinterpret_cast<SampleRow*>(slot); }
  static Candidate* Candidates(std::byte* part, int64_t rows) {
    return reinterpret_cast<Candidate*>(part + rows * sizeof(SampledRow));
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
  SamplingGroup group_;
  int64_t group_rows_ = 0;  // the most at once
  Slot slots_[kSlots];
  int64_t begun_ = 0;      // batches so far
  int64_t collected_ = 0;  // of these
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_SAMPLING_QUEUE_H_
