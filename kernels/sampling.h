// The rows of sampling: what is asked of a row of logits, and what is found. One set of structs
// from the GPU's kernels (kernels/cuda/ops.h) to the worker's sampler, which copies them as they
// are.
//
// A token is sampled by the Gumbel-max trick (gumbel.h): of the largest logit / temperature +
// noise, the noise keyed by seed, position and token id. So ranks that hold a part of the
// vocabulary each sample from their part, and the one with the highest score has the token.
//
// Plain data, ids global. Includes nothing that a kernel cannot.
//
//   const SampleRow row = {.seed = 7, .position = 12, .temperature = 0.8f, .num_candidates = 5};
//   if (sampled.finite()) token = sampled.id;
#ifndef TESSERA_KERNELS_SAMPLING_H_
#define TESSERA_KERNELS_SAMPLING_H_

#include <cstdint>

namespace tessera::kernels {

// What is asked of a row.
struct SampleRow {
  uint64_t seed = 0;
  int64_t position = 0;        // of the token to be sampled
  float temperature = 0;       // 0: greedy, and no scaled mass
  int32_t num_candidates = 0;  // how many of the best to list, at most RowSampler::MaxCandidates()
};

// Instead of a token's id.
inline constexpr int32_t kNotFinite = -1;        // the row holds a NaN or an infinity
inline constexpr int32_t kNothingToSample = -2;  // no token of the row may be sampled (host only)

// What is found in a row, or in one rank's part of it.
struct SampledRow {
  double score = 0;        // of the token: the logit when greedy, else logit / temperature + noise
  double raw_mass = 0;     // ln sum exp(logit)
  double scaled_mass = 0;  // ln sum exp(logit / temperature); raw_mass when greedy
  // The token; the greedy one at temperature 0. Below 0 nothing else holds.
  int32_t id = kNotFinite;
  float logit = 0;                 // of the token
  int32_t greedy_id = kNotFinite;  // the largest logit, ties by lowest id
  float greedy_logit = 0;

  bool finite() const { return id != kNotFinite; }
};

// The row whose token is taken, where several ranks have sampled from parts of the same one.
inline bool Better(const SampledRow& a, const SampledRow& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// One of a row's best tokens.
struct Candidate {
  float logit = 0;
  int32_t id = -1;  // -1: there are no more
};

// Best first.
inline bool Better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// They travel between ranks and memories as bytes.
static_assert(sizeof(SampleRow) == 24 && sizeof(SampledRow) == 40 && sizeof(Candidate) == 8);

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_SAMPLING_H_
