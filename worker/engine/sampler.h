// Draws tokens from logits whose vocabulary is split over the tensor-parallel ranks.
//
// Each rank looks at its own rows of the vocabulary and the ranks exchange a short record per drawn
// token: one (score, token) pair for greedy and plain sampling (the Gumbel-max trick, gumbel.h),
// and the best few candidates with the row's mass where a cut or logprobs ask for them. Only when
// those do not settle a cut is the row itself gathered. Every rank computes the same decision from
// the same records: those that came by the communicator (Sample), or made of what the devices have
// gathered among themselves (TakeDrawn).
//
// A row that the parameters change (row_changes.h) is changed in a copy, each rank its own part; log
// probabilities come from the row as the model made it, in a second short exchange where a changed
// row is asked for them.
//
// Noise is keyed by (seed, position, token id), so the same seed draws the same token whatever the
// layout, the batch or the rank. Threads: the engine thread. Collective: every rank of the
// communicator calls Sample with the same requests.
//
//   Sampler sampler(tp, vocab_ranges, Sampler::kDefaultCandidates);
//   TESSERA_ASSIGN_OR_RETURN(auto tokens, sampler.Sample(requests, logits));
#ifndef TESSERA_WORKER_ENGINE_SAMPLER_H_
#define TESSERA_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/model.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logit_batch.h"
#include "worker/engine/logit_row.h"
#include "worker/engine/row_changes.h"
#include "worker/engine/target_scorer.h"

namespace tessera::worker {

struct SampleRequest {
  const v1::SamplingParams* params = nullptr;
  int64_t sequence_id = 0;
  int64_t position = 0;  // of the token to be drawn
  const v1::DrawState* draw = &v1::DrawState::default_instance();
};

class Sampler {
 public:
  static constexpr int64_t kDefaultCandidates = 256;

  // tp: borrowed. vocab: each tp_rank's vocabulary rows. max_candidates: the most that a rank sends
  // for a cut before the whole row is gathered.
  Sampler(Communicator* tp, std::vector<v1::Range> vocab, int64_t max_candidates);

  // logits: (requests.size(), own vocabulary rows). One token per request, in order. INTERNAL when
  // a row holds a NaN or an infinity, or when none of its tokens may be drawn. Logits on a device
  // that looks at them stay there unless a row is changed or must be gathered whole.
  absl::StatusOr<std::vector<v1::SampledToken>> Sample(absl::Span<const SampleRequest> requests,
                                                       LogitBatch& logits);
  absl::StatusOr<std::vector<v1::SampledToken>> Sample(absl::Span<const SampleRequest> requests,
                                                       absl::Span<const float> logits) {
    HostLogits batch(logits);
    return Sample(requests, batch);
  }

  // What the ranks' devices have drawn, each from its own rows, for requests that IsDrawnByDevice:
  // the tokens that Sample would give. Asks no other rank.
  absl::StatusOr<std::vector<v1::SampledToken>> TakeDrawn(absl::Span<const SampleRequest> requests,
                                                          DrawnLogits& logits);
  // Whether devices that list so many candidates of a row can draw the request's token from it, as
  // it is and without being told more.
  bool IsDrawnByDevice(const SampleRequest& request, int max_candidates) const;
  // What it is to be asked then.
  kernels::RowQuestion QuestionFor(const SampleRequest& request) const;

  // Rows that had to be gathered whole so far (for tests and benchmarks).
  int64_t rows_gathered() const { return rows_gathered_; }

 private:
  struct RecordShape;
  struct Merged;

  RecordShape ShapeOf(const SampleRequest& request) const;
  LogitRow OwnRow(absl::Span<const float> logits, size_t row) const {
    return OwnPart(logits, row, vocab_[tp_->rank()]);
  }
  LogitRow Changed(const SampleRequest& request, const LogitRow& row);
  // Makes room for a record of every request of each rank.
  void LayOut(absl::Span<const SampleRequest> requests);
  // Every request's record, where it belongs in mine_.
  absl::Status WriteRecords(absl::Span<const SampleRequest> requests, LogitBatch& logits);
  void WriteRecord(const SampleRequest& request, LogitRow row, std::byte* out);
  // The same from what the device said.
  void WriteAnswer(const SampleRequest& request, const kernels::RowAnswer& answer,
                   const kernels::RowCandidate* candidates, std::byte* out) const;
  // Of the records in all_ that are at `offset` of their rank's.
  Merged MergeRecords(const SampleRequest& request, size_t offset) const;
  absl::StatusOr<std::vector<Candidate>> GatherRow(const SampleRequest& request,
                                                   const LogitRow& row);
  // One request's row, fetched where somebody needs it.
  struct RowPlace {
    LogitBatch& logits;
    size_t row;
  };
  // From the records in all_.
  absl::StatusOr<std::vector<v1::SampledToken>> DecideAll(absl::Span<const SampleRequest> requests,
                                                          LogitBatch& logits);
  absl::StatusOr<v1::SampledToken> Decide(const SampleRequest& request, const RowPlace& place,
                                          const Merged& merged);
  absl::StatusOr<Draw> DrawWithCuts(const SampleRequest& request, const RowPlace& place,
                                    const Merged& merged);
  absl::Status ScoreChangedRows(absl::Span<const SampleRequest> requests, LogitBatch& logits,
                                std::vector<v1::SampledToken>& tokens);

  int64_t vocab_size() const { return vocab_.back().end(); }

  Communicator* const tp_;
  const std::vector<v1::Range> vocab_;
  const int64_t max_candidates_;
  int64_t rows_gathered_ = 0;
  RowChanger changer_;
  TargetScorer scorer_;
  // Kept between calls so that a step allocates nothing new.
  std::vector<size_t> offsets_;        // of each request's record among its rank's
  std::vector<std::byte> mine_, all_;  // records: of one rank; of all, in rank order
  std::vector<Candidate> best_;
  std::vector<float> changed_;
  std::vector<kernels::RowQuestion> questions_;
  std::vector<kernels::RowAnswer> answers_;
  std::vector<kernels::RowCandidate> listed_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_SAMPLER_H_
