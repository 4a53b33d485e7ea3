#include "worker/engine/target_scorer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

// What a rank says of one target's row.
//
//   record := Summary, NumCandidates × Candidate (id -1 pads)
struct TargetScorer::Summary {
  double log_mass = 0;
  float logit = 0;       // of the target, where owned
  int32_t finite = 0;    // no NaN and no infinity seen
};

struct TargetScorer::Merged {
  double log_mass = 0;
  float logit = 0;  // of the target
  bool finite = true;
  std::vector<Candidate> best;
};

TargetScorer::TargetScorer(Communicator* tp, std::vector<v1::Range> vocab)
    : tp_(tp), vocab_(std::move(vocab)) {}

int64_t TargetScorer::NumCandidates(const Target& target) const {
  return std::min<int64_t>(target.num_logprobs, vocab_.back().end());
}

size_t TargetScorer::RecordBytes(const Target& target) const {
  return sizeof(Summary) + NumCandidates(target) * sizeof(Candidate);
}

absl::StatusOr<std::vector<v1::TargetLogprob>> TargetScorer::Score(
    absl::Span<const Target> targets, absl::Span<const float> logits) {
  if (targets.empty()) return std::vector<v1::TargetLogprob>();
  TESSERA_ASSIGN_OR_RETURN(const std::vector<Merged> merged, ExchangeSummaries(targets, logits));
  TESSERA_ASSIGN_OR_RETURN(const std::vector<int64_t> better,
                           CountBetter(targets, merged, logits));
  std::vector<v1::TargetLogprob> scores(targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    scores[i].set_token_id(targets[i].token_id);
    scores[i].set_logprob(static_cast<float>(merged[i].logit - merged[i].log_mass));
    scores[i].set_vocab_rank(static_cast<int32_t>(1 + better[i]));
    for (int64_t k = 0; k < NumCandidates(targets[i]); ++k) {
      scores[i].add_top_ids(merged[i].best[k].id);
      scores[i].add_top_logprobs(
          static_cast<float>(merged[i].best[k].logit - merged[i].log_mass));
    }
  }
  return scores;
}

void TargetScorer::WriteRecord(const Target& target, const LogitRow& row, std::byte* out) {
  const Draw largest = row.Greedy();
  Summary summary{.finite = largest.id >= 0};
  best_.clear();
  if (summary.finite) {
    summary.log_mass = row.LogMass(1.0, largest.logit);
    if (row.Holds(target.token_id)) summary.logit = row.logits[target.token_id - row.first_id];
    row.Best(NumCandidates(target), best_);
  }
  best_.resize(NumCandidates(target), Candidate{0, -1});
  std::memcpy(out, &summary, sizeof(summary));
  if (!best_.empty()) {
    std::memcpy(out + sizeof(summary), best_.data(), best_.size() * sizeof(Candidate));
  }
}

absl::StatusOr<std::vector<TargetScorer::Merged>> TargetScorer::ExchangeSummaries(
    absl::Span<const Target> targets, absl::Span<const float> logits) {
  std::vector<size_t> offsets;
  size_t bytes_per_rank = 0;
  for (const Target& target : targets) {
    offsets.push_back(bytes_per_rank);
    bytes_per_rank += RecordBytes(target);
  }
  mine_.resize(bytes_per_rank);
  all_.resize(bytes_per_rank * tp_->size());
  for (size_t i = 0; i < targets.size(); ++i) {
    WriteRecord(targets[i], OwnRow(logits, targets[i].row), mine_.data() + offsets[i]);
  }
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(mine_, absl::MakeSpan(all_)));
  std::vector<Merged> merged;
  for (size_t i = 0; i < targets.size(); ++i) {
    merged.push_back(MergeRecords(targets[i], bytes_per_rank, offsets[i]));
    if (merged.back().finite) continue;
    return NotFiniteError(targets[i].sequence_id, targets[i].position);
  }
  return merged;
}

TargetScorer::Merged TargetScorer::MergeRecords(const Target& target, size_t bytes_per_rank,
                                                size_t offset) const {
  Merged merged;
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = all_.data() + tp_rank * bytes_per_rank + offset;
    const Summary theirs = Load<Summary>(in);
    merged.finite = merged.finite && theirs.finite != 0;
    merged.log_mass =
        tp_rank == 0 ? theirs.log_mass : LogAddExp(merged.log_mass, theirs.log_mass);
    const v1::Range& range = vocab_[tp_rank];
    const bool owns = target.token_id >= range.begin() && target.token_id < range.end();
    if (owns) merged.logit = theirs.logit;
    in += sizeof(Summary);
    for (int64_t k = 0; k < NumCandidates(target); ++k, in += sizeof(Candidate)) {
      const Candidate candidate = Load<Candidate>(in);
      if (candidate.id >= 0) merged.best.push_back(candidate);
    }
  }
  std::sort(merged.best.begin(), merged.best.end(),
            [](const Candidate& a, const Candidate& b) { return Better(a, b); });
  return merged;
}

absl::StatusOr<std::vector<int64_t>> TargetScorer::CountBetter(absl::Span<const Target> targets,
                                                               absl::Span<const Merged> merged,
                                                               absl::Span<const float> logits) {
  std::vector<int64_t> own(targets.size()), all(targets.size() * tp_->size());
  for (size_t i = 0; i < targets.size(); ++i) {
    own[i] = OwnRow(logits, targets[i].row)
                 .CountBetter({.logit = merged[i].logit, .id = targets[i].token_id});
  }
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(own.data()), own.size() * 8),
      absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * 8)));
  for (size_t i = 0; i < targets.size(); ++i) {
    own[i] = 0;
    for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
      own[i] += all[tp_rank * targets.size() + i];
    }
  }
  return own;
}

}  // namespace tessera::worker
