// Samples tokens from logits whose vocabulary is split over the tensor-parallel ranks.
//
// Each rank samples from its own rows of the vocabulary and the ranks exchange a short record per
// token: what was sampled (kernels/sampling.h; the Gumbel-max trick of kernels/gumbel.h makes the
// best of the ranks' tokens an exact sample of the whole row), and the best few candidates where a
// filter or logprobs ask for them. Only when those do not settle a filter is the row itself
// gathered. Every rank computes the same decision from the same records: those that came by the
// communicator (Sample), or made of what the devices have gathered among themselves (TakeSampled).
//
// A row that logits processors change (logits_processors.h) is changed in a copy, each rank its own
// part; log probabilities come from the row as the model made it, in a second short exchange where
// they are wanted for a processed row.
//
// Noise is keyed by (seed, position, token id), so the same seed samples the same token whatever
// the layout, the batch or the rank. Threads: the engine thread. Collective: every rank of the
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
#include "kernels/sampling.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logit_batch.h"
#include "worker/engine/logit_row.h"
#include "worker/engine/logits_processors.h"
#include "worker/engine/logprob_scorer.h"

namespace tessera::worker {

struct SampleRequest {
  const v1::SamplingParams* params = nullptr;
  int64_t sequence_id = 0;
  int64_t position = 0;  // of the token to be sampled
  const v1::LogitsState* logits_state = &v1::LogitsState::default_instance();
};

class Sampler {
 public:
  static constexpr int64_t kDefaultCandidates = 256;

  // tp: borrowed. vocab: each tp_rank's vocabulary rows. max_candidates: the most that a rank sends
  // for a filter before the whole row is gathered.
  Sampler(Communicator* tp, std::vector<v1::Range> vocab, int64_t max_candidates);

  // logits: (requests.size(), own vocabulary rows). One token per request, in order. INTERNAL when
  // a row holds a NaN or an infinity, or when none of its tokens may be sampled. Logits on a device
  // that samples stay there unless a row is processed or must be gathered whole.
  absl::StatusOr<std::vector<v1::SampledToken>> Sample(absl::Span<const SampleRequest> requests,
                                                       LogitBatch& logits);
  absl::StatusOr<std::vector<v1::SampledToken>> Sample(absl::Span<const SampleRequest> requests,
                                                       absl::Span<const float> logits) {
    HostLogits batch(logits);
    return Sample(requests, batch);
  }

  // What the ranks' devices have sampled, each from its own rows, for requests that
  // IsSampledByDevice: the tokens that Sample would give. Asks no other rank.
  absl::StatusOr<std::vector<v1::SampledToken>> TakeSampled(
      absl::Span<const SampleRequest> requests, SampledLogits& logits);
  // Whether devices that list so many candidates of a row can sample the request's token from it,
  // as it is and without being told more.
  bool IsSampledByDevice(const SampleRequest& request, int max_candidates) const;
  // What a device is asked for the request.
  kernels::SampleRow SampleRowOf(const SampleRequest& request) const;

  // Rows that had to be gathered whole so far (for tests and benchmarks).
  int64_t rows_gathered() const { return rows_gathered_; }

 private:
  struct Merged;

  // How many candidates a rank sends for the request, and how long its record is then.
  int64_t NumCandidates(const SampleRequest& request) const;
  size_t RecordBytes(const SampleRequest& request) const;
  LogitRow OwnRow(absl::Span<const float> logits, size_t row) const {
    return OwnPart(logits, row, vocab_[tp_->rank()]);
  }
  LogitRow Processed(const SampleRequest& request, const LogitRow& row);
  // Makes room for a record of every request of each rank.
  void LayOut(absl::Span<const SampleRequest> requests);
  // Every request's record, where it belongs in mine_.
  absl::Status WriteRecords(absl::Span<const SampleRequest> requests, LogitBatch& logits);
  // The request's record from its row in host memory.
  void WriteRecord(const SampleRequest& request, LogitRow row, std::byte* out);
  // The request's record from what the device says.
  void CopyRecord(const SampleRequest& request, const kernels::SampledRow& sampled,
                  const kernels::Candidate* candidates, std::byte* out) const;
  // The records in all_ that are at `offset` of their rank's, as one.
  Merged MergeRecords(const SampleRequest& request, size_t offset) const;
  absl::StatusOr<std::vector<kernels::Candidate>> GatherRow(const SampleRequest& request,
                                                            const LogitRow& row);
  // One request's row, fetched where somebody needs it.
  struct RowPlace {
    LogitBatch& logits;
    size_t row;
  };
  // Every request's token, from the records in all_.
  absl::StatusOr<std::vector<v1::SampledToken>> DecideAll(absl::Span<const SampleRequest> requests,
                                                          LogitBatch& logits);
  absl::StatusOr<v1::SampledToken> Decide(const SampleRequest& request, const RowPlace& place,
                                          const Merged& merged);
  absl::StatusOr<kernels::SampledRow> SampleFiltered(const SampleRequest& request,
                                                     const RowPlace& place, const Merged& merged);
  absl::Status ScoreProcessedRows(absl::Span<const SampleRequest> requests, LogitBatch& logits,
                                  std::vector<v1::SampledToken>& tokens);

  int64_t vocab_size() const { return vocab_.back().end(); }

  Communicator* const tp_;
  const std::vector<v1::Range> vocab_;
  const int64_t max_candidates_;
  int64_t rows_gathered_ = 0;
  LogitsProcessors processors_;
  LogprobScorer scorer_;
  // Kept between calls so that a step allocates nothing new.
  std::vector<size_t> offsets_;        // of each request's record among its rank's
  std::vector<std::byte> mine_, all_;  // records: of one rank; of all, in rank order
  std::vector<kernels::Candidate> best_;
  std::vector<float> processed_;
  std::vector<kernels::SampleRow> rows_;
  std::vector<kernels::SampledRow> sampled_;
  std::vector<kernels::Candidate> listed_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_SAMPLER_H_
