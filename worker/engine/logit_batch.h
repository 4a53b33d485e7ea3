// Some rows of logits wherever they are: in host memory, or on a device that says of them what a
// draw needs, so that the rows themselves seldom travel.
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
#include "kernels/device.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {

class LogitBatch {
 public:
  virtual ~LogitBatch() = default;

  // All rows in host memory, valid as long as the batch.
  virtual absl::StatusOr<absl::Span<const float>> OnHost() = 0;

  // The most candidates that LookAtRows lists of a row; 0: look at OnHost.
  virtual int max_candidates() const { return 0; }
  // Device::LookAtRows about all rows.
  virtual absl::Status LookAtRows(absl::Span<const kernels::RowQuestion> /*questions*/,
                                  kernels::RowAnswer* /*answers*/,
                                  kernels::RowCandidate* /*candidates*/) {
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
  DeviceLogits(kernels::Device* device, const Place& place) : device_(device), place_(place) {}

  absl::StatusOr<absl::Span<const float>> OnHost() override {
    if (values_ == nullptr) {
      TESSERA_ASSIGN_OR_RETURN(values_,
                               device_->ReadFloats(place_.logits, place_.rows * place_.vocab));
    }
    return absl::MakeConstSpan(values_, place_.rows * place_.vocab);
  }
  int max_candidates() const override { return device_->MaxRowCandidates(); }
  absl::Status LookAtRows(absl::Span<const kernels::RowQuestion> questions,
                          kernels::RowAnswer* answers,
                          kernels::RowCandidate* candidates) override {
    return device_->LookAtRows(place_.logits, place_.vocab, place_.first_id, questions, answers,
                               candidates);
  }

 private:
  kernels::Device* const device_;
  const Place place_;
  const float* values_ = nullptr;
};

// Rows from which the devices of all ranks have drawn, of the oldest batch under way, which has
// arrived. The rows themselves are gone, and the answers are taken once.
class DrawnLogits : public LogitBatch {
 public:
  DrawnLogits(kernels::Draws* draws, int max_candidates)
      : draws_(draws), max_candidates_(max_candidates) {}

  absl::StatusOr<absl::Span<const float>> OnHost() override {
    return absl::InternalError("the logits of a step ahead of its tokens are not kept");
  }
  int max_candidates() const override { return max_candidates_; }
  // Draws::Collect.
  absl::Status Collect(kernels::RowAnswer* answers, kernels::RowCandidate* candidates) {
    return draws_->Collect(answers, candidates);
  }

 private:
  kernels::Draws* const draws_;
  const int max_candidates_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGIT_BATCH_H_
