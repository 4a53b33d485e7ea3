// How likely given tokens are, from logits whose vocabulary is split over the tensor-parallel
// ranks: log probability, place among all tokens, and the most likely alternatives. Rows are never
// gathered; the ranks exchange two short records per target.
//
// The numbers are those of the row as the model made it, and a row's do not depend on the others.
// Threads: the engine thread. Collective: every rank calls Score with the same targets.
//
//   TargetScorer scorer(tp, vocab_ranges);
//   TESSERA_ASSIGN_OR_RETURN(auto scores, scorer.Score(targets, logits));
#ifndef TESSERA_WORKER_ENGINE_TARGET_SCORER_H_
#define TESSERA_WORKER_ENGINE_TARGET_SCORER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/model.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logit_row.h"

namespace tessera::worker {

struct Target {
  size_t row = 0;            // of the logits given to Score
  int32_t token_id = 0;
  int64_t num_logprobs = 0;  // alternatives wanted; as many as the vocabulary has, if that is fewer
  int64_t sequence_id = 0;   // these two for messages
  int64_t position = 0;
};

class TargetScorer {
 public:
  // tp: borrowed. vocab: each tp_rank's vocabulary rows, which follow each other from 0.
  TargetScorer(Communicator* tp, std::vector<v1::Range> vocab);

  // logits: (rows, own vocabulary rows). One result per target, in order. INTERNAL when a target's
  // row holds a NaN or an infinity.
  absl::StatusOr<std::vector<v1::TargetLogprob>> Score(absl::Span<const Target> targets,
                                                       absl::Span<const float> logits);

 private:
  struct Summary;
  struct Merged;

  int64_t NumCandidates(const Target& target) const;
  size_t RecordBytes(const Target& target) const;
  void WriteRecord(const Target& target, const LogitRow& row, std::byte* out);
  absl::StatusOr<std::vector<Merged>> ExchangeSummaries(absl::Span<const Target> targets,
                                                        absl::Span<const float> logits);
  Merged MergeRecords(const Target& target, size_t bytes_per_rank, size_t offset) const;
  absl::StatusOr<std::vector<int64_t>> CountBetter(absl::Span<const Target> targets,
                                                   absl::Span<const Merged> merged,
                                                   absl::Span<const float> logits);

  LogitRow OwnRow(absl::Span<const float> logits, size_t row) const {
    return OwnPart(logits, row, vocab_[tp_->rank()]);
  }

  Communicator* const tp_;
  const std::vector<v1::Range> vocab_;
  // Kept between calls so that a step allocates nothing new.
  std::vector<std::byte> mine_, all_;
  std::vector<Candidate> best_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_TARGET_SCORER_H_
