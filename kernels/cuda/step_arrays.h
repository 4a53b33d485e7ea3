// A StepView (host) as the arrays of ops.h (device): one buffer, filled on the host, copied to the
// device in one piece per step.
//
// Pure; no CUDA. The layout is fixed by the capacities, so a graph recorded once sees every later
// step at the same addresses.
//
//   StepLayout layout(capacity);                        // once
//   layout.Fill(step, n, largest_group, host);          // per step; host: layout.bytes()
//   ... copy layout.bytes() to device_buffer ...
//   StepArrays arrays = layout.Arrays(device_buffer, step.rope, step.ids != nullptr);
#ifndef TESSERA_KERNELS_CUDA_STEP_ARRAYS_H_
#define TESSERA_KERNELS_CUDA_STEP_ARRAYS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cuda/ops.h"
#include "kernels/views.h"

namespace tessera::kernels::cuda {

struct StepCapacity {
  int64_t tokens = 0;        // rows, padding included
  int64_t sequences = 0;
  int64_t table_entries = 0; // KV blocks of all sequences of a step
  int64_t decode_items = 0;
  int64_t prefill_items = 0;
  int rope_dim = 0;          // largest
};

// What a step needs of each.
StepCapacity CapacityFor(const StepView& step, int64_t n, int largest_group, int sliding_window);

struct StepCounts {
  int64_t decode_items = 0;
  int64_t prefill_items = 0;
};

// Sequences of at least this many tokens are attended to in prefill form.
inline constexpr int32_t kPrefillTokens = 8;

class StepLayout {
 public:
  explicit StepLayout(const StepCapacity& capacity);

  const StepCapacity& capacity() const { return capacity_; }
  size_t bytes() const { return static_cast<size_t>(bytes_); }

  // Writes the arrays of `step`, for n >= step.n rows (those beyond have position -1), into `host`
  // (bytes()). largest_group: query heads per KV head, of all layers the largest. sliding_window: 0,
  // or when every layer has one, the largest. RESOURCE_EXHAUSTED when a capacity does not do;
  // INVALID_ARGUMENT when the sequences' tokens are not the step's, in order.
  absl::StatusOr<StepCounts> Fill(const StepView& step, int64_t n, int largest_group,
                                  int sliding_window, std::byte* host) const;

  // The arrays at `device`, where the filled buffer is copied to. rope: that of the step (its
  // pointers are not used).
  StepArrays Arrays(const std::byte* device, const RopeTable& rope, bool with_ids) const;
  // The ids among the arrays.
  int32_t* MutableIds(std::byte* device) const {
    return reinterpret_cast<int32_t*>(device + ids_);
  }

 private:
  StepCapacity capacity_;
  // Byte offsets.
  int64_t counts_ = 0, ids_ = 0, positions_ = 0, sequences_ = 0, table_begins_ = 0,
          decode_begins_ = 0, decode_items_ = 0, prefill_items_ = 0, tables_ = 0, cos_ = 0, sin_ = 0,
          bytes_ = 0;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_STEP_ARRAYS_H_
