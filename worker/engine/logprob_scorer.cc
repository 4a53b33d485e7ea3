#include "worker/engine/logprob_scorer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

using kernels::Candidate;

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

// What a rank says of one request's row.
//
//   record := Summary, NumCandidates × Candidate (id -1 pads)
struct LogprobScorer::Summary {
  double log_mass = 0;
  float logit = 0;       // of the token, where owned
  int32_t finite = 0;    // no NaN and no infinity seen
};

struct LogprobScorer::Merged {
  double log_mass = 0;
  float logit = 0;  // of the token
  bool finite = true;
  std::vector<Candidate> best;
};

LogprobScorer::LogprobScorer(Communicator* tp, std::vector<v1::Range> vocab)
    : tp_(tp), vocab_(std::move(vocab)) {}

int64_t LogprobScorer::NumCandidates(const LogprobRequest& request) const {
  return std::min<int64_t>(request.num_logprobs, vocab_.back().end());
}

size_t LogprobScorer::RecordBytes(const LogprobRequest& request) const {
  return sizeof(Summary) + NumCandidates(request) * sizeof(Candidate);
}

absl::StatusOr<std::vector<v1::PromptLogprob>> LogprobScorer::Score(
    absl::Span<const LogprobRequest> requests, absl::Span<const float> logits) {
  if (requests.empty()) return std::vector<v1::PromptLogprob>();
  TESSERA_ASSIGN_OR_RETURN(const std::vector<Merged> merged, ExchangeSummaries(requests, logits));
  TESSERA_ASSIGN_OR_RETURN(const std::vector<int64_t> better,
                           CountBetter(requests, merged, logits));
  std::vector<v1::PromptLogprob> scores(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    scores[i].set_token_id(requests[i].token_id);
    scores[i].set_logprob(static_cast<float>(merged[i].logit - merged[i].log_mass));
    scores[i].set_vocab_rank(static_cast<int32_t>(1 + better[i]));
    for (int64_t k = 0; k < NumCandidates(requests[i]); ++k) {
      scores[i].add_top_ids(merged[i].best[k].id);
      scores[i].add_top_logprobs(
          static_cast<float>(merged[i].best[k].logit - merged[i].log_mass));
    }
  }
  return scores;
}

void LogprobScorer::WriteRecord(const LogprobRequest& request, const LogitRow& row,
                                std::byte* out) {
  const kernels::SampledRow largest = row.Greedy();
  Summary summary{.finite = largest.finite()};
  best_.clear();
  if (summary.finite) {
    summary.log_mass = row.LogMass(1.0, largest.logit);
    if (row.Holds(request.token_id)) summary.logit = row.logits[request.token_id - row.first_id];
    row.Best(NumCandidates(request), best_);
  }
  best_.resize(NumCandidates(request), Candidate());
  std::memcpy(out, &summary, sizeof(summary));
  if (!best_.empty()) {
    std::memcpy(out + sizeof(summary), best_.data(), best_.size() * sizeof(Candidate));
  }
}

absl::StatusOr<std::vector<LogprobScorer::Merged>> LogprobScorer::ExchangeSummaries(
    absl::Span<const LogprobRequest> requests, absl::Span<const float> logits) {
  std::vector<size_t> offsets;
  size_t bytes_per_rank = 0;
  for (const LogprobRequest& request : requests) {
    offsets.push_back(bytes_per_rank);
    bytes_per_rank += RecordBytes(request);
  }
  mine_.resize(bytes_per_rank);
  all_.resize(bytes_per_rank * tp_->size());
  for (size_t i = 0; i < requests.size(); ++i) {
    WriteRecord(requests[i], OwnRow(logits, requests[i].row), mine_.data() + offsets[i]);
  }
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(mine_, absl::MakeSpan(all_)));
  std::vector<Merged> merged;
  for (size_t i = 0; i < requests.size(); ++i) {
    merged.push_back(MergeRecords(requests[i], bytes_per_rank, offsets[i]));
    if (merged.back().finite) continue;
    return NotFiniteError(requests[i].sequence_id, requests[i].position);
  }
  return merged;
}

LogprobScorer::Merged LogprobScorer::MergeRecords(const LogprobRequest& request,
                                                  size_t bytes_per_rank, size_t offset) const {
  Merged merged;
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = all_.data() + tp_rank * bytes_per_rank + offset;
    const Summary theirs = Load<Summary>(in);
    merged.finite = merged.finite && theirs.finite != 0;
    merged.log_mass =
        tp_rank == 0 ? theirs.log_mass : LogAddExp(merged.log_mass, theirs.log_mass);
    const v1::Range& range = vocab_[tp_rank];
    const bool owns = request.token_id >= range.begin() && request.token_id < range.end();
    if (owns) merged.logit = theirs.logit;
    in += sizeof(Summary);
    for (int64_t k = 0; k < NumCandidates(request); ++k, in += sizeof(Candidate)) {
      const Candidate candidate = Load<Candidate>(in);
      if (candidate.id >= 0) merged.best.push_back(candidate);
    }
  }
  std::sort(merged.best.begin(), merged.best.end(),
            [](const Candidate& a, const Candidate& b) { return Better(a, b); });
  return merged;
}

absl::StatusOr<std::vector<int64_t>> LogprobScorer::CountBetter(
    absl::Span<const LogprobRequest> requests, absl::Span<const Merged> merged,
    absl::Span<const float> logits) {
  std::vector<int64_t> own(requests.size()), all(requests.size() * tp_->size());
  for (size_t i = 0; i < requests.size(); ++i) {
    own[i] = OwnRow(logits, requests[i].row)
                 .CountBetter({.logit = merged[i].logit, .id = requests[i].token_id});
  }
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(own.data()), own.size() * 8),
      absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * 8)));
  for (size_t i = 0; i < requests.size(); ++i) {
    own[i] = 0;
    for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
      own[i] += all[tp_rank * requests.size() + i];
    }
  }
  return own;
}

}  // namespace tessera::worker
