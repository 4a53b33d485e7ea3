#include "worker/engine/top_k_top_p.h"

#include <algorithm>
#include <cmath>

namespace tessera::worker {
namespace {

bool TopKIsOn(const v1::SamplingParams& params, int64_t vocab_size) {
  return params.top_k() > 0 && params.top_k() < vocab_size;
}

}  // namespace

bool HasFilter(const v1::SamplingParams& params, int64_t vocab_size) {
  return params.temperature() > 0 &&
         (TopKIsOn(params, vocab_size) || params.top_p() < 1 || params.min_p() > 0);
}

bool FilterNeedsMass(const v1::SamplingParams& params, int64_t vocab_size) {
  return HasFilter(params, vocab_size) && params.top_p() < 1 && !TopKIsOn(params, vocab_size);
}

std::optional<int64_t> CountKept(const KnownBest& row, int64_t vocab_size,
                                 const v1::SamplingParams& params) {
  const absl::Span<const kernels::Candidate> best = row.best;
  const int64_t known = static_cast<int64_t>(best.size());
  auto weight = [&](int64_t i) {  // relative to the best token's
    return std::exp((double{best[i].logit} - best[0].logit) / params.temperature());
  };

  int64_t kept = row.all ? known : vocab_size;
  double mass = row.mass;
  if (TopKIsOn(params, vocab_size)) {
    kept = std::min<int64_t>(kept, params.top_k());
    if (kept > known) return std::nullopt;
    mass = 0;
    for (int64_t i = 0; i < kept; ++i) mass += weight(i);
  }
  if (params.top_p() < 1) {
    double reached = 0;
    int64_t count = 0;
    do {
      if (count == known) return std::nullopt;
      reached += weight(count++);
    } while (count < kept && reached < params.top_p() * mass);
    kept = count;
  }
  if (params.min_p() > 0) {
    int64_t count = 1;
    while (count < kept && count < known && weight(count) >= params.min_p()) ++count;
    if (count == known && count < kept) return std::nullopt;
    kept = count;
  }
  if (kept > known) return std::nullopt;
  return kept;
}

}  // namespace tessera::worker
