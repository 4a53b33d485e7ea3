// The top-k, top-p and min-p filters as one number: how many of the best tokens may be sampled.
//
// Each of the three keeps a prefix of the tokens ordered by logit (ties by lowest id), so together
// they keep a prefix too. Order: temperature, then top-k, then top-p over what top-k left
// (renormalized; the fewest best tokens whose mass reaches top_p), then min-p relative to the best.
// Pure.
#ifndef TESSERA_WORKER_ENGINE_TOP_K_TOP_P_H_
#define TESSERA_WORKER_ENGINE_TOP_K_TOP_P_H_

#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "kernels/sampling.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::worker {

// Whether any of the three applies: not when greedy, and not when every one is off.
bool HasFilter(const v1::SamplingParams& params, int64_t vocab_size);
// Whether the filter needs the whole row's mass, not only the candidates'.
bool FilterNeedsMass(const v1::SamplingParams& params, int64_t vocab_size);

// What is known of a row.
struct KnownBest {
  absl::Span<const kernels::Candidate>
      best;          // the first best.size() tokens that may be sampled, best first
  bool all = false;  // no others may be sampled
  // The sum over the row of exp((logit - best[0].logit) / temperature), used where FilterNeedsMass.
  double mass = 0;
};

// nullopt when the answer lies beyond `known.best`; never when that holds all. At least 1.
std::optional<int64_t> CountKept(const KnownBest& known, int64_t vocab_size,
                                 const v1::SamplingParams& params);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_TOP_K_TOP_P_H_
