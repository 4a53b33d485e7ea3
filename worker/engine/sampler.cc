#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

// Logarithms of a row's mass: of sum exp(logit), and of sum exp(logit / temperature).
struct LogMasses {
  double raw = -std::numeric_limits<double>::infinity();     // for logprobs
  double scaled = -std::numeric_limits<double>::infinity();  // for top-p
};

bool IsChanged(const SampleRequest& request) {
  return ChangesRow(*request.params, *request.draw);
}

bool WantsLogprobs(const SampleRequest& request) { return request.params->num_logprobs() >= 0; }

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace

// What a rank sends per request; the same on every rank, as all know the request. Draw, scaled mass
// and candidates are those of the row to draw from.
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
  std::vector<Candidate> best;  // the first best.size() tokens that may be drawn, best first
  bool best_is_all = false;     // no others may be drawn
};

Sampler::Sampler(Communicator* tp, std::vector<v1::Range> vocab, int64_t max_candidates)
    : tp_(tp), vocab_(std::move(vocab)), max_candidates_(max_candidates), scorer_(tp, vocab_) {}

Sampler::RecordShape Sampler::ShapeOf(const SampleRequest& request) const {
  const v1::SamplingParams& params = *request.params;
  RecordShape shape;
  const bool logprobs = WantsLogprobs(request) && !IsChanged(request);
  shape.masses = logprobs || CutsNeedMass(params, vocab_size());
  shape.num_candidates = logprobs ? params.num_logprobs() : 0;
  if (HasCuts(params, vocab_size())) {
    // The best k of every rank hold the best k of all.
    const int64_t for_cuts =
        params.top_k() > 0 ? std::min<int64_t>(params.top_k(), max_candidates_) : max_candidates_;
    shape.num_candidates = std::max(shape.num_candidates, for_cuts);
  }
  return shape;
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::Sample(
    absl::Span<const SampleRequest> requests, LogitBatch& logits) {
  LayOut(requests);
  TESSERA_RETURN_IF_ERROR(WriteRecords(requests, logits));
  TESSERA_RETURN_IF_ERROR(tp_->AllGather(mine_, absl::MakeSpan(all_)));
  return DecideAll(requests, logits);
}

absl::StatusOr<std::vector<v1::SampledToken>> Sampler::TakeDrawn(
    absl::Span<const SampleRequest> requests, DrawnLogits& logits) {
  LayOut(requests);
  answers_.resize(requests.size() * tp_->size());
  listed_.resize(answers_.size() * logits.max_candidates());
  TESSERA_RETURN_IF_ERROR(logits.Collect(answers_.data(), listed_.data()));
  for (size_t i = 0; i < answers_.size(); ++i) {
    const size_t tp_rank = i / requests.size(), r = i % requests.size();
    WriteAnswer(requests[r], answers_[i], &listed_[i * logits.max_candidates()],
                all_.data() + tp_rank * mine_.size() + offsets_[r]);
  }
  return DecideAll(requests, logits);
}

void Sampler::LayOut(absl::Span<const SampleRequest> requests) {
  offsets_.clear();
  size_t bytes = 0;
  for (const SampleRequest& request : requests) {
    offsets_.push_back(bytes);
    bytes += ShapeOf(request).bytes();
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
  TESSERA_RETURN_IF_ERROR(ScoreChangedRows(requests, logits, tokens));
  return tokens;
}

LogitRow Sampler::Changed(const SampleRequest& request, const LogitRow& row) {
  changed_.assign(row.logits.begin(), row.logits.end());
  changer_.Change(*request.params, *request.draw, row.first_id, absl::MakeSpan(changed_));
  return {changed_, row.first_id};
}

absl::Status Sampler::WriteRecords(absl::Span<const SampleRequest> requests, LogitBatch& logits) {
  const auto by_device = [&](const SampleRequest& request) {
    return !IsChanged(request) && logits.max_candidates() > 0 &&
           ShapeOf(request).num_candidates <= logits.max_candidates();
  };
  // The device looks at all rows or at none: what it says of the others is not used.
  if (std::any_of(requests.begin(), requests.end(), by_device)) {
    questions_.clear();
    for (const SampleRequest& request : requests) {
      questions_.push_back(by_device(request) ? QuestionFor(request) : kernels::RowQuestion());
    }
    answers_.resize(requests.size());
    listed_.resize(requests.size() * logits.max_candidates());
    TESSERA_RETURN_IF_ERROR(logits.LookAtRows(questions_, answers_.data(), listed_.data()));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    std::byte* const out = mine_.data() + offsets_[i];
    if (by_device(requests[i])) {
      WriteAnswer(requests[i], answers_[i], &listed_[i * logits.max_candidates()], out);
    } else {
      TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, logits.OnHost());
      WriteRecord(requests[i], OwnRow(values, i), out);
    }
  }
  return absl::OkStatus();
}

bool Sampler::IsDrawnByDevice(const SampleRequest& request, int max_candidates) const {
  return !IsChanged(request) && !HasCuts(*request.params, vocab_size()) &&
         ShapeOf(request).num_candidates <= max_candidates;
}

kernels::RowQuestion Sampler::QuestionFor(const SampleRequest& request) const {
  const v1::SamplingParams& params = *request.params;
  return {.seed = params.seed(),
          .position = request.position,
          .temperature = params.temperature(),
          .num_candidates = static_cast<int>(ShapeOf(request).num_candidates)};
}

void Sampler::WriteAnswer(const SampleRequest& request, const kernels::RowAnswer& answer,
                          const kernels::RowCandidate* candidates, std::byte* out) const {
  const v1::SamplingParams& params = *request.params;
  const RecordShape shape = ShapeOf(request);
  Draw draw;
  if (answer.finite) {
    const bool plain_sampling = params.temperature() > 0 && !HasCuts(params, vocab_size());
    draw = plain_sampling ? Draw{answer.score, answer.id, answer.logit}
                          : Draw{answer.greedy_logit, answer.greedy_id, answer.greedy_logit};
  }
  std::memcpy(out, &draw, sizeof(draw));
  out += sizeof(draw);
  if (shape.masses) {
    LogMasses masses;
    if (answer.finite && WantsLogprobs(request)) masses.raw = answer.raw_mass;
    if (answer.finite && CutsNeedMass(params, vocab_size())) masses.scaled = answer.scaled_mass;
    std::memcpy(out, &masses, sizeof(masses));
    out += sizeof(masses);
  }
  for (int64_t i = 0; i < shape.num_candidates; ++i, out += sizeof(Candidate)) {
    const Candidate candidate = answer.finite ? Candidate{candidates[i].logit, candidates[i].id}
                                              : Candidate{0, -1};
    std::memcpy(out, &candidate, sizeof(candidate));
  }
}

void Sampler::WriteRecord(const SampleRequest& request, LogitRow row, std::byte* out) {
  const v1::SamplingParams& params = *request.params;
  const RecordShape shape = ShapeOf(request);
  const bool plain_sampling = params.temperature() > 0 && !HasCuts(params, vocab_size());
  Draw greedy = row.Greedy();
  if (IsChanged(request) && greedy.id != kNotFinite) {
    row = Changed(request, row);
    greedy = row.GreedyOfAllowed();
  }
  Draw draw = greedy;
  if (plain_sampling) {
    draw = row.Sampled(params.temperature(), NoiseRow(params.seed(), request.position), greedy);
  }
  std::memcpy(out, &draw, sizeof(draw));
  out += sizeof(draw);

  const bool some = greedy.id >= 0;
  if (shape.masses) {
    LogMasses masses;
    if (some && WantsLogprobs(request)) masses.raw = row.LogMass(1.0, greedy.logit);
    if (some && CutsNeedMass(params, vocab_size())) {
      masses.scaled = row.LogMass(params.temperature(), greedy.logit);
    }
    std::memcpy(out, &masses, sizeof(masses));
    out += sizeof(masses);
  }
  if (shape.num_candidates > 0) {
    best_.clear();
    if (some) row.Best(shape.num_candidates, best_);
    best_.resize(shape.num_candidates, Candidate{0, -1});
    std::memcpy(out, best_.data(), best_.size() * sizeof(Candidate));
  }
}

Sampler::Merged Sampler::MergeRecords(const SampleRequest& request, size_t offset) const {
  const RecordShape shape = ShapeOf(request);
  Merged merged;
  merged.draw.id = kNothingToDraw;
  std::optional<Candidate> known_until;  // beyond it, some rank may have more than it sent
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const std::byte* in = all_.data() + tp_rank * mine_.size() + offset;
    const Draw draw = Load<Draw>(in);
    if (draw.id == kNotFinite) {
      merged.finite = false;
      return merged;
    }
    const bool better = merged.draw.id < 0 || Better(draw, merged.draw);
    if (draw.id >= 0 && better) merged.draw = draw;
    in += sizeof(Draw);
    if (shape.masses) {
      const LogMasses theirs = Load<LogMasses>(in);
      merged.masses.raw = LogAddExp(merged.masses.raw, theirs.raw);
      merged.masses.scaled = LogAddExp(merged.masses.scaled, theirs.scaled);
      in += sizeof(LogMasses);
    }
    Candidate candidate;
    for (int64_t i = 0; i < shape.num_candidates; ++i, in += sizeof(Candidate)) {
      candidate = Load<Candidate>(in);
      if (candidate.id >= 0) merged.best.push_back(candidate);
    }
    // Padding says that the rank has no more.
    const int64_t owned = vocab_[tp_rank].end() - vocab_[tp_rank].begin();
    const bool has_more =
        shape.num_candidates > 0 && owned > shape.num_candidates && candidate.id >= 0;
    if (has_more && (!known_until || Better(candidate, *known_until))) known_until = candidate;
  }
  const auto better = [](const Candidate& a, const Candidate& b) { return Better(a, b); };
  std::sort(merged.best.begin(), merged.best.end(), better);
  merged.best_is_all = shape.num_candidates > 0 && !known_until;
  if (known_until) {
    merged.best.erase(
        std::upper_bound(merged.best.begin(), merged.best.end(), *known_until, better),
        merged.best.end());
  }
  return merged;
}

// All tokens of the row that may be drawn, best first.
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
  if (IsChanged(request)) whole = Changed(request, whole);
  std::vector<Candidate> best;
  whole.Best(vocab_size(), best);
  return best;
}

absl::StatusOr<v1::SampledToken> Sampler::Decide(const SampleRequest& request,
                                                 const RowPlace& place, const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  if (!merged.finite) return NotFiniteError(request.sequence_id, request.position);
  if (merged.draw.id == kNothingToDraw) {
    return absl::InternalError(absl::StrCat("sequence ", request.sequence_id, ", position ",
                                            request.position, ": no token may be drawn"));
  }
  Draw chosen = merged.draw;
  if (HasCuts(params, vocab_size())) {
    TESSERA_ASSIGN_OR_RETURN(chosen, DrawWithCuts(request, place, merged));
  }

  v1::SampledToken token;
  token.set_sequence_id(request.sequence_id);
  token.set_token_id(chosen.id);
  if (WantsLogprobs(request) && !IsChanged(request)) {
    token.set_logprob(static_cast<float>(chosen.logit - merged.masses.raw));
    for (int i = 0; i < params.num_logprobs(); ++i) {
      token.add_top_ids(merged.best[i].id);
      token.add_top_logprobs(static_cast<float>(merged.best[i].logit - merged.masses.raw));
    }
  }
  return token;
}

absl::StatusOr<Draw> Sampler::DrawWithCuts(const SampleRequest& request, const RowPlace& place,
                                           const Merged& merged) {
  const v1::SamplingParams& params = *request.params;
  KnownBest known{.best = merged.best, .all = merged.best_is_all};
  known.mass = std::exp(merged.masses.scaled - known.best[0].logit / double{params.temperature()});
  std::optional<int64_t> kept = CountKept(known, vocab_size(), params);
  std::vector<Candidate> whole;
  if (!kept) {
    TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, place.logits.OnHost());
    TESSERA_ASSIGN_OR_RETURN(whole, GatherRow(request, OwnRow(values, place.row)));
    known.best = whole;
    known.all = true;
    kept = CountKept(known, vocab_size(), params);
  }
  const NoiseRow noise(params.seed(), request.position);
  Draw chosen;
  for (const Candidate& candidate : known.best.first(kept.value())) {
    const double score =
        candidate.logit / double{params.temperature()} + noise.Gumbel(candidate.id);
    const Draw draw{score, candidate.id, candidate.logit};
    if (chosen.id < 0 || Better(draw, chosen)) chosen = draw;
  }
  return chosen;
}

// Log probabilities under the rows as the model made them, where the draw did not see those.
absl::Status Sampler::ScoreChangedRows(absl::Span<const SampleRequest> requests,
                                       LogitBatch& logits,
                                       std::vector<v1::SampledToken>& tokens) {
  std::vector<Target> targets;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!WantsLogprobs(requests[i]) || !IsChanged(requests[i])) continue;
    targets.push_back({.row = i,
                       .token_id = tokens[i].token_id(),
                       .num_logprobs = requests[i].params->num_logprobs(),
                       .sequence_id = requests[i].sequence_id,
                       .position = requests[i].position});
  }
  if (targets.empty()) return absl::OkStatus();  // on all ranks
  TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> values, logits.OnHost());
  TESSERA_ASSIGN_OR_RETURN(std::vector<v1::TargetLogprob> scores, scorer_.Score(targets, values));
  for (size_t i = 0; i < targets.size(); ++i) {
    v1::SampledToken& token = tokens[targets[i].row];
    token.set_logprob(scores[i].logprob());
    *token.mutable_top_ids() = std::move(*scores[i].mutable_top_ids());
    *token.mutable_top_logprobs() = std::move(*scores[i].mutable_top_logprobs());
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
