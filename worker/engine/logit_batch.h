// Some rows of logits wherever they are: in host memory, or on a device that samples
// from them, so that the rows themselves seldom travel.
//
// Borrows what it is made of. Threads: the engine thread.
//
//   HostLogits logits(values);                       // (rows, own vocabulary) in host memory
//   TESSERA_ASSIGN_OR_RETURN(auto values, logits.OnHost());
#ifndef TESSERA_WORKER_ENGINE_LOGIT_BATCH_H_
#define TESSERA_WORKER_ENGINE_LOGIT_BATCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device_memory.h"
#include "kernels/row_sampler.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {

class LogitBatch {
 public:
  virtual ~LogitBatch() = default;

  // All rows in host memory, valid as long as the batch.
  virtual absl::StatusOr<absl::Span<const float>> OnHost() = 0;

  // The most candidates that SampleRows lists of a row; 0: sample from OnHost.
  virtual int max_candidates() const { return 0; }
  // RowSampler::SampleRows for all rows.
  virtual absl::Status SampleRows(absl::Span<const kernels::SampleRow> /*rows*/,
                                  kernels::SampledRow* /*sampled*/,
                                  kernels::Candidate* /*candidates*/) {
    return absl::UnimplementedError("these logits are in host memory");
  }
};

class HostLogits : public LogitBatch {
 public:
  explicit HostLogits(absl::Span<const float> values) : values_(values) {}
  absl::StatusOr<absl::Span<const float>> OnHost() override { return values_; }

 private:
  const absl::Span<const float> values_;
};

// rows x vocab logits of tokens first_id ... in the device's memory.
class DeviceLogits : public LogitBatch {
 public:
  struct Place {
    const float* logits = nullptr;
    int64_t rows = 0;
    int64_t vocab = 0;
    int32_t first_id = 0;
  };
  DeviceLogits(kernels::DeviceMemory& memory, kernels::RowSampler& sampler, const Place& place)
      : memory_(memory), sampler_(sampler), place_(place) {}

  absl::StatusOr<absl::Span<const float>> OnHost() override {
    if (values_ == nullptr) {
      TESSERA_ASSIGN_OR_RETURN(values_,
                               memory_.ReadFloats(place_.logits, place_.rows * place_.vocab));
    }
    return absl::MakeConstSpan(values_, place_.rows * place_.vocab);
  }
  int max_candidates() const override { return sampler_.MaxCandidates(); }
  absl::Status SampleRows(absl::Span<const kernels::SampleRow> rows, kernels::SampledRow* sampled,
                          kernels::Candidate* candidates) override {
    return sampler_.SampleRows(place_.logits, place_.vocab, place_.first_id, rows, sampled,
                               candidates);
  }

 private:
  kernels::DeviceMemory& memory_;
  kernels::RowSampler& sampler_;
  const Place place_;
  const float* values_ = nullptr;
};

// Rows from which the devices of all ranks have sampled: the oldest batch under way, which has
// arrived. The logits themselves are gone, and what was sampled is taken once.
class SampledLogits : public LogitBatch {
 public:
  SampledLogits(kernels::SamplingQueue* queue, int max_candidates)
      : queue_(queue), max_candidates_(max_candidates) {}

  absl::StatusOr<absl::Span<const float>> OnHost() override {
    return absl::InternalError("the logits of an asynchronously scheduled step are not kept");
  }
  int max_candidates() const override { return max_candidates_; }
  // SamplingQueue::Collect.
  absl::Status Collect(kernels::SampledRow* sampled, kernels::Candidate* candidates) {
    return queue_->Collect(sampled, candidates);
  }

 private:
  kernels::SamplingQueue* const queue_;
  const int max_candidates_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGIT_BATCH_H_
