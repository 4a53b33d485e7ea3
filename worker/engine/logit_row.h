// What one rank can say about its part of a row of logits. Pure; vocabulary ids are global.
#ifndef TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
#define TESSERA_WORKER_ENGINE_LOGIT_ROW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/gumbel.h"
#include "kernels/sampling.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::worker {

// ln(e^a + e^b); either may be -infinity.
double LogAddExp(double a, double b);

// INTERNAL: the row from which that sequence's token at that position comes holds a NaN or so.
absl::Status NotFiniteError(int64_t sequence_id, int64_t position);

// logits: those of tokens first_id, first_id + 1, ...; at least one. As the model made them, all
// finite unless something went wrong; in a processed row (logits_processors.h),
// -infinity is the logit of what may not be sampled.
struct LogitRow {
  absl::Span<const float> logits;
  int32_t first_id = 0;

  bool Holds(int32_t id) const {
    return id >= first_id && id < first_id + static_cast<int64_t>(logits.size());
  }

  // The largest logit, ties by lowest id; kNotFinite. No masses.
  kernels::SampledRow Greedy() const;
  // The largest logit of a processed row; kNothingToSample. No masses.
  kernels::SampledRow GreedyOfAllowed() const;
  // `greedy` (what Greedy or GreedyOfAllowed found) with the token of the largest
  // logit / temperature + noise instead.
  kernels::SampledRow Sampled(double temperature, const kernels::NoiseRow& noise,
                              const kernels::SampledRow& greedy) const;
  // ln of the sum of exp(logit / temperature). `largest`: the largest logit.
  double LogMass(double temperature, float largest) const;
  // The `count` best that may be sampled (all, when there are no more), best first, into `best`.
  void Best(int64_t count, std::vector<kernels::Candidate>& best) const;
  // How many come before `candidate`, best first.
  int64_t CountBetter(const kernels::Candidate& candidate) const;

 private:
  // The token of the largest logit, which is `max`.
  kernels::SampledRow FirstOf(float max) const;
};

// Row `row` of logits (rows, size of `own`), which are those of the vocabulary's part `own`.
LogitRow OwnPart(absl::Span<const float> logits, size_t row, const v1::Range& own);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGIT_ROW_H_
