#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kernels/gumbel.h"
#include "proto/base/status_macros.h"
#include "worker/engine/top_k_top_p.h"

namespace tessera::worker {
namespace {

using kernels::Candidate;
using kernels::SampledRow;

bool IsProcessed(const SampleRequest& request) {
  return ProcessesLogits(*request.params, *request.logits_state);
}

bool WantsLogprobs(const SampleRequest& request) { return request.params->num_logprobs() >= 0; }

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

// What a rank sends per request; the same shape on every rank, as all know the request. Everything
// is that of the row to sample from, but for raw_mass, which is that of the row as the model made
// it and holds only where logprobs are wanted of an unprocessed row; scaled_mass holds only where a
// filter needs it.
//
//   record := SampledRow, NumCandidates × Candidate (id -1 pads)

// What all ranks' records say together.
struct Sampler::Merged {
  SampledRow row;  // the best of the ranks' tokens; the masses are those of the whole row
  std::vector<Candidate> best;  // the first best.size() tokens that may be sampled, best first
  bool best_is_all = false;     // no others may be sampled
};

Sampler::Sampler(Communicator* tp, std::vector<v1::Range> vocab, int64_t max_candidates)
    : tp_(tp), vocab_(std::move(vocab)), max_candidates_(max_candidates), scorer_(tp, vocab_) {}

int64_t Sampler::NumCandidates(const SampleRequest& request) const {
  const v1::SamplingParams& params = *request.params;
  const bool logprobs = WantsLogprobs(request) && !IsProcessed(request);
  const int64_t for_logprobs = logprobs ? params.num_logprobs() : 0;
  if (!HasFilter(params, vocab_size())) return for_logprobs;
  // The best k of every rank hold the best k of all.
  const int64_t for_filter =
      params.top_k() > 0 ? std::min<int64_t>(params.top_k(), max_candidates_) : max_candidates_;
  return std::max(for_logprobs, for_filter);
}

size_t Sampler::RecordBytes(const SampleRequest& request) const {
  return sizeof(SampledRow) + NumCandidates(request) * sizeof(Candidate);
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::Sample(
    absl::Span<const SampleRequest> requests, LogitBatch& logits) {
  LayOut(requests);
  TESSERA_RETURN_IF_ERROR(WriteRecords(requests, logits));
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(mine_, absl::MakeSpan(all_)));
  return DecideAll(requests, logits);
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::TakeSampled(
    absl::Span<const SampleRequest> requests, SampledLogits& logits) {
  LayOut(requests);
  sampled_.resize(requests.size() * tp_->size());
  listed_.resize(sampled_.size() * logits.max_candidates());
  TESSERA_RETURN_IF_ERROR(logits.Collect(sampled_.data(), listed_.data()));
  for (size_t i = 0; i < sampled_.size(); ++i) {
    const size_t tp_rank = i / requests.size(), r = i % requests.size();
    CopyRecord(requests[r], sampled_[i], listed_.data() + i * logits.max_candidates(),
               all_.data() + tp_rank * mine_.size() + offsets_[r]);
  }
  return DecideAll(requests, logits);
}

void Sampler::LayOut(absl::Span<const SampleRequest> requests) {
  offsets_.clear();
  size_t bytes = 0;
  for (const SampleRequest& request : requests) {
    offsets_.push_back(bytes);
    bytes += RecordBytes(request);
  }
  mine_.resize(bytes);
  all_.resize(bytes * tp_->size());
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::DecideAll(
    absl::Span<const SampleRequest> requests, LogitBatch& logits) {
  std::vector<v1::SampledToken> tokens;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Merged merged = MergeRecords(requests[i], offsets_[i]);
    TESSERA_ASSIGN_OR_RETURN(v1::SampledToken token,
                             Decide(requests[i], RowPlace{logits, i}, merged));
    tokens.push_back(std::move(token));
  }
  TESSERA_RETURN_IF_ERROR(ScoreProcessedRows(requests, logits, tokens));
  return tokens;
}

LogitRow Sampler::Processed(const SampleRequest& request, const LogitRow& row) {
  processed_.assign(row.logits.begin(), row.logits.end());
  processors_.Apply(*request.params, *request.logits_state, row.first_id,
                    absl::MakeSpan(processed_));
  return {processed_, row.first_id};
}

absl::Status Sampler::WriteRecords(absl::Span<const SampleRequest> requests, LogitBatch& logits) {
  const auto by_device = [&](const SampleRequest& request) {
    return !IsProcessed(request) && logits.max_candidates() > 0 &&
           NumCandidates(request) <= logits.max_candidates();
  };
  // The device samples from all rows or from none: what it says of the others is not used.
  if (std::any_of(requests.begin(), requests.end(), by_device)) {
    rows_.clear();
    for (const SampleRequest& request : requests) {
      rows_.push_back(by_device(request) ? SampleRowOf(request) : kernels::SampleRow());
    }
    sampled_.resize(requests.size());
    listed_.resize(requests.size() * logits.max_candidates());
    TESSERA_RETURN_IF_ERROR(logits.SampleRows(rows_, sampled_.data(), listed_.data()));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    std::byte* const out = mine_.data() + offsets_[i];
    if (by_device(requests[i])) {
      CopyRecord(requests[i], sampled_[i], listed_.data() + i * logits.max_candidates(), out);
    } else {
      TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, logits.OnHost());
      WriteRecord(requests[i], OwnRow(values, i), out);
    }
  }
  return absl::OkStatus();
}

bool Sampler::IsSampledByDevice(const SampleRequest& request, int max_candidates) const {
  return !IsProcessed(request) && !HasFilter(*request.params, vocab_size()) &&
         NumCandidates(request) <= max_candidates;
}

kernels::SampleRow Sampler::SampleRowOf(const SampleRequest& request) const {
  const v1::SamplingParams& params = *request.params;
  return {.seed = params.seed(),
          .position = request.position,
          .temperature = params.temperature(),
          .num_candidates = static_cast<int32_t>(NumCandidates(request))};
}

void Sampler::CopyRecord(const SampleRequest& request, const SampledRow& sampled,
                         const Candidate* candidates, std::byte* out) const {
  std::memcpy(out, &sampled, sizeof(sampled));
  const size_t bytes = NumCandidates(request) * sizeof(Candidate);
  if (bytes > 0) std::memcpy(out + sizeof(sampled), candidates, bytes);
}

void Sampler::WriteRecord(const SampleRequest& request, LogitRow row, std::byte* out) {
  const v1::SamplingParams& params = *request.params;
  SampledRow sampled = row.Greedy();
  if (IsProcessed(request) && sampled.finite()) {
    row = Processed(request, row);
    sampled = row.GreedyOfAllowed();
  }
  best_.clear();
  if (sampled.id >= 0) {
    if (WantsLogprobs(request) && !IsProcessed(request)) {
      sampled.raw_mass = row.LogMass(1.0, sampled.greedy_logit);
    }
    if (FilterNeedsMass(params, vocab_size())) {
      sampled.scaled_mass = row.LogMass(params.temperature(), sampled.greedy_logit);
    }
    row.Best(NumCandidates(request), best_);
    if (params.temperature() > 0 && !HasFilter(params, vocab_size())) {
      const kernels::NoiseRow noise(params.seed(), request.position);
      sampled = row.Sampled(params.temperature(), noise, sampled);
    }
  }
  best_.resize(NumCandidates(request), Candidate());
  CopyRecord(request, sampled, best_.data(), out);
}

Sampler::Merged Sampler::MergeRecords(const SampleRequest& request, size_t offset) const {
  const int64_t num_candidates = NumCandidates(request);
  Merged merged;
  merged.row.id = kernels::kNothingToSample;
  double raw_mass = -std::numeric_limits<double>::infinity(), scaled_mass = raw_mass;
  std::optional<Candidate> known_until;  // beyond it, some rank may have more than it sent
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = all_.data() + tp_rank * mine_.size() + offset;
    const SampledRow theirs = Load<SampledRow>(in);
    if (!theirs.finite()) {
      merged.row = theirs;
      return merged;
    }
    if (theirs.id >= 0) {
      if (merged.row.id < 0 || Better(theirs, merged.row)) merged.row = theirs;
      raw_mass = LogAddExp(raw_mass, theirs.raw_mass);
      scaled_mass = LogAddExp(scaled_mass, theirs.scaled_mass);
    }
    in += sizeof(SampledRow);
    Candidate candidate;
    for (int64_t i = 0; i < num_candidates; ++i, in += sizeof(Candidate)) {
      candidate = Load<Candidate>(in);
      if (candidate.id >= 0) merged.best.push_back(candidate);
    }
    // Padding says that the rank has no more.
    const int64_t owned = vocab_[tp_rank].end() - vocab_[tp_rank].begin();
    const bool has_more = num_candidates > 0 && owned > num_candidates && candidate.id >= 0;
    if (has_more && (!known_until || Better(candidate, *known_until))) known_until = candidate;
  }
  merged.row.raw_mass = raw_mass;
  merged.row.scaled_mass = scaled_mass;
  const auto better = [](const Candidate& a, const Candidate& b) { return Better(a, b); };
  std::sort(merged.best.begin(), merged.best.end(), better);
  merged.best_is_all = num_candidates > 0 && !known_until;
  if (known_until) {
    merged.best.erase(
        std::upper_bound(merged.best.begin(), merged.best.end(), *known_until, better),
        merged.best.end());
  }
  return merged;
}

// All tokens of the row that may be sampled, best first.
absl::StatusOr<std::vector<Candidate>> Sampler::GatherRow(const SampleRequest& request,
                                                          const LogitRow& row) {
  ++rows_gathered_;
  int64_t widest = 0;
  for (const v1::Range& range : vocab_) {
    widest = std::max<int64_t>(widest, range.end() - range.begin());
  }
  const size_t bytes_per_rank = widest * sizeof(float);
  std::vector<std::byte> padded(bytes_per_rank), gathered(bytes_per_rank * tp_->size());
  std::memcpy(padded.data(), row.logits.data(), row.logits.size() * sizeof(float));
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(padded, absl::MakeSpan(gathered)));

  std::vector<float> logits(vocab_size());
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const v1::Range& range = vocab_[tp_rank];
    std::memcpy(logits.data() + range.begin(), gathered.data() + tp_rank * bytes_per_rank,
                (range.end() - range.begin()) * sizeof(float));
  }
  LogitRow whole{logits, 0};
  if (IsProcessed(request)) whole = Processed(request, whole);
  std::vector<Candidate> best;
  whole.Best(vocab_size(), best);
  return best;
}

absl::StatusOr<v1::SampledToken> Sampler::Decide(const SampleRequest& request,
                                                 const RowPlace& place, const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  if (!merged.row.finite()) return NotFiniteError(request.sequence_id, request.position);
  if (merged.row.id == kernels::kNothingToSample) {
    return absl::InternalError(absl::StrCat("sequence ", request.sequence_id, ", position ",
                                            request.position, ": no token may be sampled"));
  }
  SampledRow chosen = merged.row;
  if (HasFilter(params, vocab_size())) {
    TESSERA_ASSIGN_OR_RETURN(chosen, SampleFiltered(request, place, merged));
  }

  v1::SampledToken token;
  token.set_sequence_id(request.sequence_id);
  token.set_token_id(chosen.id);
  if (WantsLogprobs(request) && !IsProcessed(request)) {
    token.set_logprob(static_cast<float>(chosen.logit - merged.row.raw_mass));
    for (int i = 0; i < params.num_logprobs(); ++i) {
      token.add_top_ids(merged.best[i].id);
      token.add_top_logprobs(static_cast<float>(merged.best[i].logit - merged.row.raw_mass));
    }
  }
  return token;
}

absl::StatusOr<SampledRow> Sampler::SampleFiltered(const SampleRequest& request,
                                                   const RowPlace& place, const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  KnownBest known{.best = merged.best, .all = merged.best_is_all};
  known.mass =
      std::exp(merged.row.scaled_mass - known.best[0].logit / double{params.temperature()});
  std::optional<int64_t> kept = CountKept(known, vocab_size(), params);
  std::vector<Candidate> whole;
  if (!kept) {
    TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, place.logits.OnHost());
    TESSERA_ASSIGN_OR_RETURN(whole, GatherRow(request, OwnRow(values, place.row)));
    known.best = whole;
    known.all = true;
    kept = CountKept(known, vocab_size(), params);
  }
  const kernels::NoiseRow noise(params.seed(), request.position);
  SampledRow chosen;
  for (const Candidate& candidate : known.best.first(kept.value())) {
    const double score =
        candidate.logit / double{params.temperature()} + noise.Gumbel(candidate.id);
    const SampledRow sampled{.score = score, .id = candidate.id, .logit = candidate.logit};
    if (chosen.id < 0 || Better(sampled, chosen)) chosen = sampled;
  }
  return chosen;
}

// Log probabilities under the rows as the model made them, where the token was sampled from others.
absl::Status Sampler::ScoreProcessedRows(absl::Span<const SampleRequest> requests,
                                         LogitBatch& logits,
                                         std::vector<v1::SampledToken>& tokens) {
  std::vector<LogprobRequest> wanted;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!WantsLogprobs(requests[i]) || !IsProcessed(requests[i])) continue;
    wanted.push_back({.row = i,
                      .token_id = tokens[i].token_id(),
                      .num_logprobs = requests[i].params->num_logprobs(),
                      .sequence_id = requests[i].sequence_id,
                      .position = requests[i].position});
  }
  if (wanted.empty()) return absl::OkStatus();  // on all ranks
  TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, logits.OnHost());
  TESSERA_ASSIGN_OR_RETURN(std::vector<v1::PromptLogprob> scores, scorer_.Score(wanted, values));
  for (size_t i = 0; i < wanted.size(); ++i) {
    v1::SampledToken& token = tokens[wanted[i].row];
    token.set_logprob(scores[i].logprob());
    *token.mutable_top_ids() = std::move(*scores[i].mutable_top_ids());
    *token.mutable_top_logprobs() = std::move(*scores[i].mutable_top_logprobs());
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
