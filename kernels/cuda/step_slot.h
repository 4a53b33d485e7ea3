// The arrays of a step on their way from the host to a fixed place on the GPU, where a recording finds
// them again.
//
// Borrows nothing between calls. Threads: the device's caller. Errors go to the device's CudaErrors.
//
//   bool moved = false;
//   if (!slot.Grow(errors, CapacityFor(step, rows, ...), outgrown, moved)) return errors.first();
//   if (!slot.Upload(errors, step, rows, stream, counts)) return errors.first();
//   StepArrays arrays = slot.Arrays(step);
#ifndef TESSERA_KERNELS_CUDA_STEP_SLOT_H_
#define TESSERA_KERNELS_CUDA_STEP_SLOT_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/step_arrays.h"
#include "kernels/views.h"

namespace tessera::kernels::cuda {

// The least power of two that is not below n, nor below 1.
inline int64_t Bucket(int64_t n) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(n, 1))));
}

// Pinned memory and its copy on the GPU. Grows to the largest step so far.
class StepSlot {
 public:
  // Room for `need`; tells in `moved` whether the arrays have a new place. Waits for nothing.
  bool Grow(CudaErrors& errors, const StepCapacity& need, Outgrown& outgrown, bool& moved) {
    moved = false;
    if (Holds(need)) return errors.ok();
    StepCapacity grown = layout_ ? layout_->capacity() : StepCapacity();
    grown.tokens = std::max(grown.tokens, Bucket(need.tokens));
    grown.sequences = std::max(grown.sequences, Bucket(need.sequences));
    grown.table_entries = std::max(grown.table_entries, Bucket(need.table_entries));
    grown.decode_items = std::max(grown.decode_items, Bucket(need.decode_items));
    grown.prefill_items = std::max(grown.prefill_items, Bucket(need.prefill_items));
    grown.rope_dim = std::max(grown.rope_dim, need.rope_dim);
    layout_ = std::make_unique<StepLayout>(grown);
    moved = true;
    return host_.Grow(errors, kOperation, layout_->bytes(), outgrown) &&
           device_.Grow(errors, kOperation, layout_->bytes(), outgrown);
  }

  // Waits for the copy before, fills in the step and starts its copy.
  bool Upload(CudaErrors& errors, const StepView& step, int64_t rows, cudaStream_t stream,
              StepCounts& counts) {
    if (!copied_.Wait(errors, kOperation)) return false;
    absl::StatusOr<StepCounts> filled =
        layout_->Fill(step, rows, step.largest_group, step.sliding_window, host_.data());
    if (!filled.ok()) {
      errors.Fail(kOperation, filled.status().code(), std::string(filled.status().message()));
      return false;
    }
    counts = *filled;
    return errors.Check(kOperation, "cudaMemcpyAsync",
                        cudaMemcpyAsync(device_.data(), host_.data(), layout_->bytes(),
                                        cudaMemcpyHostToDevice, stream)) &&
           copied_.Record(errors, kOperation, stream);
  }

  StepArrays Arrays(const StepView& step) const {
    return layout_->Arrays(device_.data(), step.rope, step.ids != nullptr);
  }
  // On the GPU: those of Arrays.
  int32_t* MutableIds() const { return layout_->MutableIds(device_.data()); }
  const StepCapacity& capacity() const { return layout_->capacity(); }
  // Whether Grow would leave the arrays where they are.
  bool Holds(const StepCapacity& need) const {
    return layout_ != nullptr && Holds(layout_->capacity(), need);
  }

 private:
  static constexpr char kOperation[] = "BeginStep";

  static bool Holds(const StepCapacity& has, const StepCapacity& need) {
    return has.tokens >= need.tokens && has.sequences >= need.sequences &&
           has.table_entries >= need.table_entries && has.decode_items >= need.decode_items &&
           has.prefill_items >= need.prefill_items && has.rope_dim >= need.rope_dim;
  }

  std::unique_ptr<StepLayout> layout_;
  PinnedMemory host_;
  DeviceBuffer device_;
  Event copied_;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_STEP_SLOT_H_
