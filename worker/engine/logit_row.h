// What one rank can say about its part of a row of logits. Pure; vocabulary ids are global.
#ifndef TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
#define TESSERA_WORKER_ENGINE_LOGIT_ROW_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/engine/gumbel.h"
#include "worker/engine/token_cuts.h"

namespace tessera::worker {

// A contender for the token to emit.
struct Draw {
  double score = 0;  // the logit when greedy; logit / temperature + Gumbel noise when sampling
  int32_t id = -1;   // -1: the row holds a NaN or an infinity, and no token may be drawn from it
  float logit = 0;
};

inline bool Better(const Draw& a, const Draw& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// logits: those of tokens first_id, first_id + 1, ...; at least one.
struct LogitRow {
  absl::Span<const float> logits;
  int32_t first_id = 0;

  // The largest logit, ties by lowest id.
  Draw Greedy() const;
  // The largest logit / temperature + noise.
  Draw Sampled(double temperature, const NoiseRow& noise) const;
  // ln of the sum of exp(logit / temperature). `largest`: the largest logit.
  double LogMass(double temperature, float largest) const;
  // The `count` best (all, when there are no more), best first, into `best`.
  void Best(int64_t count, std::vector<Candidate>& best) const;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
