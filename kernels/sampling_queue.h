// Sampling that stays on the device, so that the next step can be put behind this one before the
// host knows its tokens (async scheduling).
//
// Batches are collected in the order in which they were begun; at most two are under way. All of it
// is put on the device's stream; none of it waits.
//
// In the ids of the step that is begun next, -1 - i is a placeholder for the token sampled from row
// i of the batch begun last: the best of what the members of the group sampled. The device puts the
// token there.
//
// Threads and failures: as the device, which owns it.
//
//   TESSERA_RETURN_IF_ERROR(queue->Reserve(most_rows, {}));
//   TESSERA_RETURN_IF_ERROR(queue->Begin(rows));
//   queue->Sample(logits, vocab, first_id, 0, rows.size());   // until every row has its logits
//   TESSERA_RETURN_IF_ERROR(queue->End());
//   ... until *queue->Arrived(): TESSERA_RETURN_IF_ERROR(queue->Collect(sampled, candidates));
#ifndef TESSERA_KERNELS_SAMPLING_QUEUE_H_
#define TESSERA_KERNELS_SAMPLING_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/sampling.h"

namespace tessera::kernels {

// Devices that sample together, each from its own part of every row.
struct SamplingGroup {
  int size = 1;
  // SamplingQueue::GroupBytes of device memory, at the same place of what `gather` works on in each
  // member.
  std::byte* memory = nullptr;
  // Puts on the device's stream what brings `bytes` at `mine` of every member, one member after the
  // other, to `all`. Both lie in `memory`. Every member calls it with the same bytes.
  std::function<absl::Status(const std::byte* mine, size_t bytes, std::byte* all)> gather;
};

class SamplingQueue {
 public:
  virtual ~SamplingQueue() = default;

  // Device memory for a group of `size` that samples from up to `rows` at once.
  virtual size_t GroupBytes(int size, int64_t rows) const = 0;
  // Makes room for batches of up to `rows`, before the first one. In a group of more than one the
  // members begin the same batches in the same order, none of them larger.
  virtual absl::Status Reserve(int64_t rows, SamplingGroup group) = 0;

  virtual absl::Status Begin(absl::Span<const SampleRow> rows) = 0;
  // Samples rows [first, first + count) from logits (count, vocab) in device memory, those of
  // tokens first_id ....
  virtual void Sample(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
                      int64_t count) = 0;
  virtual absl::Status End() = 0;

  // Whether what the oldest batch under way sampled has reached the host; at least one is under
  // way.
  virtual absl::StatusOr<bool> Arrived() = 0;
  // Takes it; it has arrived. Shapes as those of RowSampler::SampleRows, one member of the group
  // after the other.
  virtual absl::Status Collect(SampledRow* sampled, Candidate* candidates) = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_SAMPLING_QUEUE_H_
