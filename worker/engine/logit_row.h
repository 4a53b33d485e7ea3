// What one rank can say about its part of a row of logits. Pure; vocabulary ids are global.
#ifndef TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
#define TESSERA_WORKER_ENGINE_LOGIT_ROW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tessera/v1/model.pb.h"
#include "worker/engine/gumbel.h"
#include "worker/engine/token_cuts.h"

namespace tessera::worker {

// Instead of a token's id.
inline constexpr int32_t kNotFinite = -1;     // the row holds a NaN or an infinity
inline constexpr int32_t kNothingToDraw = -2;  // no token of these may be drawn

// A contender for the token to emit.
struct Draw {
  double score = 0;  // the logit when greedy; logit / temperature + Gumbel noise when sampling
  int32_t id = kNotFinite;
  float logit = 0;
};

inline bool Better(const Draw& a, const Draw& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// ln(e^a + e^b); either may be -infinity.
double LogAddExp(double a, double b);

// INTERNAL: the row from which that sequence's token at that position comes holds a NaN or so.
absl::Status NotFiniteError(int64_t sequence_id, int64_t position);

// logits: those of tokens first_id, first_id + 1, ...; at least one. As the model made them, all
// finite unless something went wrong; in a changed row (row_changes.h), -infinity is the logit of
// what may not be drawn.
struct LogitRow {
  absl::Span<const float> logits;
  int32_t first_id = 0;

  bool Holds(int32_t id) const {
    return id >= first_id && id < first_id + static_cast<int64_t>(logits.size());
  }

  // The largest logit, ties by lowest id; kNotFinite.
  Draw Greedy() const;
  // The same of a changed row; kNothingToDraw.
  Draw GreedyOfAllowed() const;
  // The largest logit / temperature + noise. greedy: what Greedy or GreedyOfAllowed found.
  Draw Sampled(double temperature, const NoiseRow& noise, const Draw& greedy) const;
  // ln of the sum of exp(logit / temperature). `largest`: the largest logit.
  double LogMass(double temperature, float largest) const;
  // The `count` best that may be drawn (all, when there are no more), best first, into `best`.
  void Best(int64_t count, std::vector<Candidate>& best) const;
  // How many come before `candidate`, best first.
  int64_t CountBetter(const Candidate& candidate) const;
};

// Row `row` of logits (rows, size of `own`), which are those of the vocabulary's part `own`.
LogitRow OwnPart(absl::Span<const float> logits, size_t row, const v1::Range& own);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
