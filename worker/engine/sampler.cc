#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/wire/status_macros.h"

namespace tessera::worker {
namespace {

// Logarithms of a row's mass: of sum exp(logit), and of sum exp(logit / temperature).
struct LogMasses {
  double raw = 0;     // for logprobs
  double scaled = 0;  // for top-p
};

double LogAddExp(double a, double b) {
  const double high = std::max(a, b);
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

// What a rank sends per request; the same on every rank, as all know the request.
//
//   record := Draw, [LogMasses], num_candidates × Candidate (id -1 pads)
struct Sampler::RecordShape {
  bool masses = false;
  int64_t num_candidates = 0;

  size_t bytes() const {
    return sizeof(Draw) + (masses ? sizeof(LogMasses) : 0) + num_candidates * sizeof(Candidate);
  }
};

// What all ranks' records say together.
struct Sampler::Merged {
  Draw draw;                    // the best of the ranks' draws
  bool finite = true;           // no rank saw a NaN or an infinity
  LogMasses masses;             // of the whole row
  std::vector<Candidate> best;  // the row's first best.size() tokens, best first
};

Sampler::Sampler(Communicator* tp, std::vector<v1::Range> vocab, int64_t max_candidates)
    : tp_(tp), vocab_(std::move(vocab)), max_candidates_(max_candidates) {}

Sampler::RecordShape Sampler::ShapeOf(const v1::SamplingParams& params) const {
  RecordShape shape;
  const bool logprobs = params.num_logprobs() >= 0;
  shape.masses = logprobs || CutsNeedMass(params, vocab_size());
  shape.num_candidates = std::max<int64_t>(0, params.num_logprobs());
  if (HasCuts(params, vocab_size())) {
    // The best k of every rank hold the best k of all.
    const int64_t for_cuts =
        params.top_k() > 0 ? std::min<int64_t>(params.top_k(), max_candidates_) : max_candidates_;
    shape.num_candidates = std::max(shape.num_candidates, for_cuts);
  }
  return shape;
}

LogitRow Sampler::OwnRow(absl::Span<const float> logits, size_t row) const {
  const v1::Range& range = vocab_[tp_->rank()];
  const size_t width = range.end() - range.begin();
  return {logits.subspan(row * width, width), range.begin()};
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::Sample(
    absl::Span<const SampleRequest> requests, absl::Span<const float> logits) {
  std::vector<size_t> offsets;
  size_t bytes_per_rank = 0;
  for (const SampleRequest& request : requests) {
    offsets.push_back(bytes_per_rank);
    bytes_per_rank += ShapeOf(*request.params).bytes();
  }
  mine_.resize(bytes_per_rank);
  all_.resize(bytes_per_rank * tp_->size());
  for (size_t i = 0; i < requests.size(); ++i) {
    WriteRecord(requests[i], OwnRow(logits, i), mine_.data() + offsets[i]);
  }
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(mine_, absl::MakeSpan(all_)));

  std::vector<v1::SampledToken> tokens;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Merged merged = MergeRecords(requests[i], all_, bytes_per_rank, offsets[i]);
    TESSERA_ASSIGN_OR_RETURN(v1::SampledToken token,
                             Decide(requests[i], OwnRow(logits, i), merged));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void Sampler::WriteRecord(const SampleRequest& request, const LogitRow& row, std::byte* out) {
  const v1::SamplingParams& params = *request.params;
  const RecordShape shape = ShapeOf(params);
  const bool plain_sampling = params.temperature() > 0 && !HasCuts(params, vocab_size());
  const Draw greedy = row.Greedy();
  Draw draw = greedy;
  if (plain_sampling && greedy.id >= 0) {
    draw = row.Sampled(params.temperature(), NoiseRow(params.seed(), request.position));
  }
  std::memset(out, 0, shape.bytes());
  std::memcpy(out, &draw, sizeof(draw));
  if (greedy.id < 0) return;
  out += sizeof(draw);

  if (shape.masses) {
    LogMasses masses;
    if (params.num_logprobs() >= 0) masses.raw = row.LogMass(1.0, greedy.logit);
    if (CutsNeedMass(params, vocab_size())) {
      masses.scaled = row.LogMass(params.temperature(), greedy.logit);
    }
    std::memcpy(out, &masses, sizeof(masses));
    out += sizeof(masses);
  }
  if (shape.num_candidates > 0) {
    row.Best(shape.num_candidates, best_);
    std::memcpy(out, best_.data(), best_.size() * sizeof(Candidate));
    out += best_.size() * sizeof(Candidate);
    const Candidate padding{0, -1};
    for (int64_t i = best_.size(); i < shape.num_candidates; ++i, out += sizeof(padding)) {
      std::memcpy(out, &padding, sizeof(padding));
    }
  }
}

Sampler::Merged Sampler::MergeRecords(const SampleRequest& request, absl::Span<const std::byte> all,
                                      size_t bytes_per_rank, size_t offset) const {
  const RecordShape shape = ShapeOf(*request.params);
  Merged merged;
  std::optional<Candidate> known_until;  // beyond it, some rank may have more than it sent
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = all.data() + tp_rank * bytes_per_rank + offset;
    const Draw draw = Load<Draw>(in);
    if (draw.id < 0) {
      merged.finite = false;
      return merged;
    }
    if (merged.draw.id < 0 || Better(draw, merged.draw)) merged.draw = draw;
    in += sizeof(Draw);
    if (shape.masses) {
      const LogMasses theirs = Load<LogMasses>(in);
      merged.masses.raw = tp_rank == 0 ? theirs.raw : LogAddExp(merged.masses.raw, theirs.raw);
      merged.masses.scaled =
          tp_rank == 0 ? theirs.scaled : LogAddExp(merged.masses.scaled, theirs.scaled);
      in += sizeof(LogMasses);
    }
    Candidate candidate;
    for (int64_t i = 0; i < shape.num_candidates; ++i, in += sizeof(Candidate)) {
      candidate = Load<Candidate>(in);
      if (candidate.id >= 0) merged.best.push_back(candidate);
    }
    const int64_t owned = vocab_[tp_rank].end() - vocab_[tp_rank].begin();
    const bool has_more = owned > shape.num_candidates && shape.num_candidates > 0;
    if (has_more && (!known_until || Better(candidate, *known_until))) known_until = candidate;
  }
  const auto better = [](const Candidate& a, const Candidate& b) { return Better(a, b); };
  std::sort(merged.best.begin(), merged.best.end(), better);
  if (known_until) {
    merged.best.erase(
        std::upper_bound(merged.best.begin(), merged.best.end(), *known_until, better),
        merged.best.end());
  }
  return merged;
}

absl::StatusOr<std::vector<Candidate>> Sampler::GatherRow(const LogitRow& row) {
  ++rows_gathered_;
  int64_t widest = 0;
  for (const v1::Range& range : vocab_) {
    widest = std::max<int64_t>(widest, range.end() - range.begin());
  }
  const size_t bytes_per_rank = widest * sizeof(float);
  std::vector<std::byte> padded(bytes_per_rank), gathered(bytes_per_rank * tp_->size());
  std::memcpy(padded.data(), row.logits.data(), row.logits.size() * sizeof(float));
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(padded, absl::MakeSpan(gathered)));

  std::vector<Candidate> whole;
  whole.reserve(vocab_size());
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = gathered.data() + tp_rank * bytes_per_rank;
    for (int32_t id = vocab_[tp_rank].begin(); id < vocab_[tp_rank].end(); ++id) {
      whole.push_back({Load<float>(in), id});
      in += sizeof(float);
    }
  }
  std::sort(whole.begin(), whole.end(),
            [](const Candidate& a, const Candidate& b) { return Better(a, b); });
  return whole;
}

absl::StatusOr<v1::SampledToken> Sampler::Decide(const SampleRequest& request, const LogitRow& row,
                                                 const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  if (!merged.finite) {
    return absl::InternalError(absl::StrCat("sequence ", request.sequence_id, ", position ",
                                            request.position,
                                            ": the logits hold a NaN or an infinity"));
  }
  Draw chosen = merged.draw;
  if (HasCuts(params, vocab_size())) {
    TESSERA_ASSIGN_OR_RETURN(chosen, DrawWithCuts(request, row, merged));
  }

  v1::SampledToken token;
  token.set_sequence_id(request.sequence_id);
  token.set_token_id(chosen.id);
  if (params.num_logprobs() >= 0) {
    token.set_logprob(static_cast<float>(chosen.logit - merged.masses.raw));
    for (int i = 0; i < params.num_logprobs(); ++i) {
      token.add_top_ids(merged.best[i].id);
      token.add_top_logprobs(static_cast<float>(merged.best[i].logit - merged.masses.raw));
    }
  }
  return token;
}

absl::StatusOr<Draw> Sampler::DrawWithCuts(const SampleRequest& request, const LogitRow& row,
                                           const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  absl::Span<const Candidate> best = merged.best;
  const double mass = std::exp(merged.masses.scaled - best[0].logit / double{params.temperature()});
  std::optional<int64_t> kept = CountKept(best, vocab_size(), mass, params);
  std::vector<Candidate> whole;
  if (!kept) {
    TESSERA_ASSIGN_OR_RETURN(whole, GatherRow(row));
    best = whole;
    kept = CountKept(best, vocab_size(), mass, params);
  }
  const NoiseRow noise(params.seed(), request.position);
  Draw chosen;
  for (const Candidate& candidate : best.first(kept.value())) {
    const double score =
        candidate.logit / double{params.temperature()} + noise.Gumbel(candidate.id);
    const Draw draw{score, candidate.id, candidate.logit};
    if (chosen.id < 0 || Better(draw, chosen)) chosen = draw;
  }
  return chosen;
}

}  // namespace tessera::worker
