// How likely given tokens are, from logits whose vocabulary is split over the tensor-parallel
// ranks: log probability, place among all tokens, and the most likely alternatives. Rows are never
// gathered; the ranks exchange two short records per request.
//
// This is where prompt logprobs come from, and those of a sampled token whose row was processed.
//
// The numbers are those of the row as the model made it, and a row's do not depend on the others.
// Threads: the engine thread. Collective: every rank calls Score with the same requests.
//
//   LogprobScorer scorer(tp, vocab_ranges);
//   TESSERA_ASSIGN_OR_RETURN(auto scores, scorer.Score(requests, logits));
#ifndef TESSERA_WORKER_ENGINE_LOGPROB_SCORER_H_
#define TESSERA_WORKER_ENGINE_LOGPROB_SCORER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logit_row.h"

namespace tessera::worker {

// One token whose log probability is wanted.
struct LogprobRequest {
  size_t row = 0;            // of the logits given to Score
  int32_t token_id = 0;
  int64_t num_logprobs = 0;  // alternatives wanted; as many as the vocabulary has, if that is fewer
  int64_t sequence_id = 0;   // these two for messages
  int64_t position = 0;
};

class LogprobScorer {
 public:
  // tp: borrowed. vocab: each tp_rank's vocabulary rows, which follow each other from 0.
  LogprobScorer(Communicator* tp, std::vector<v1::Range> vocab);

  // logits: (rows, own vocabulary rows). One result per request, in order. INTERNAL when a
  // request's row holds a NaN or an infinity.
  absl::StatusOr<std::vector<v1::PromptLogprob>> Score(absl::Span<const LogprobRequest> requests,
                                                       absl::Span<const float> logits);

 private:
  struct Summary;
  struct Merged;

  int64_t NumCandidates(const LogprobRequest& request) const;
  size_t RecordBytes(const LogprobRequest& request) const;
  void WriteRecord(const LogprobRequest& request, const LogitRow& row, std::byte* out);
  absl::StatusOr<std::vector<Merged>> ExchangeSummaries(absl::Span<const LogprobRequest> requests,
                                                        absl::Span<const float> logits);
  Merged MergeRecords(const LogprobRequest& request, size_t bytes_per_rank, size_t offset) const;
  absl::StatusOr<std::vector<int64_t>> CountBetter(absl::Span<const LogprobRequest> requests,
                                                   absl::Span<const Merged> merged,
                                                   absl::Span<const float> logits);

  LogitRow OwnRow(absl::Span<const float> logits, size_t row) const {
    return OwnPart(logits, row, vocab_[tp_->rank()]);
  }

  Communicator* const tp_;
  const std::vector<v1::Range> vocab_;
  // Kept between calls so that a step allocates nothing new.
  std::vector<std::byte> mine_, all_;
  std::vector<kernels::Candidate> best_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGPROB_SCORER_H_
