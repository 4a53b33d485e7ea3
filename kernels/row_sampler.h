// Sampling on the device: from rows of logits that lie in its memory, so that they seldom travel.
//
// Threads and failures: as the device (device.h).
//
//   if (sampler.MaxCandidates() >= wanted) {
//     TESSERA_RETURN_IF_ERROR(sampler.SampleRows(logits, vocab, first_id, rows, sampled,
//     candidates));
//   }
#ifndef TESSERA_KERNELS_ROW_SAMPLER_H_
#define TESSERA_KERNELS_ROW_SAMPLER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/sampling.h"
#include "kernels/sampling_queue.h"

namespace tessera::kernels {

class RowSampler {
 public:
  virtual ~RowSampler() = default;

  // The most candidates that it lists of a row; 0: it does not sample, read the logits.
  virtual int MaxCandidates() const { return 0; }
  // Samples from row i of logits (rows.size(), vocab) in device memory, those of tokens first_id
  // ..., as rows[i] asks. sampled: (rows.size()); candidates: (rows.size(), MaxCandidates()), best
  // first, as many of a row as were asked for. Waits for the device.
  virtual absl::Status SampleRows(const float* logits, int64_t vocab, int32_t first_id,
                                  absl::Span<const SampleRow> rows, SampledRow* sampled,
                                  Candidate* candidates) {
    static_cast<void>(logits), static_cast<void>(vocab), static_cast<void>(first_id);
    static_cast<void>(rows), static_cast<void>(sampled), static_cast<void>(candidates);
    return absl::UnimplementedError("this device does not sample");
  }

  // Null: what this device samples is known to the host before the next step begins.
  virtual SamplingQueue* sampling_queue() { return nullptr; }
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_ROW_SAMPLER_H_
