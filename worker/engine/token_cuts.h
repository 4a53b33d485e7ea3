// Top-k, top-p and min-p as one number: how many of the best tokens may be drawn.
//
// Each of the three keeps a prefix of the tokens ordered by logit (ties by lowest id), so together
// they keep a prefix too. Order: temperature, then top-k, then top-p over what top-k left
// (renormalized; the fewest best tokens whose mass reaches top_p), then min-p relative to the best.
// Pure.
#ifndef TESSERA_WORKER_ENGINE_TOKEN_CUTS_H_
#define TESSERA_WORKER_ENGINE_TOKEN_CUTS_H_

#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::worker {

struct Candidate {
  float logit = 0;
  int32_t id = 0;
};

// Best first.
inline bool Better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Whether any cut applies: not when greedy, and not when every one is off.
bool HasCuts(const v1::SamplingParams& params, int64_t vocab_size);
// Whether the cut needs the whole row's mass, not only the candidates'.
bool CutsNeedMass(const v1::SamplingParams& params, int64_t vocab_size);

// What is known of a row.
struct KnownBest {
  absl::Span<const Candidate> best;  // the first best.size() tokens that may be drawn, best first
  bool all = false;                  // no others may be drawn
  // The sum over the row of exp((logit - best[0].logit) / temperature), used where CutsNeedMass.
  double mass = 0;
};

// nullopt when the answer lies beyond `known.best`; never when that holds all. At least 1.
std::optional<int64_t> CountKept(const KnownBest& known, int64_t vocab_size,
                                 const v1::SamplingParams& params);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_TOKEN_CUTS_H_
