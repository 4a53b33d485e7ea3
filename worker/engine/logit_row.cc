#include "worker/engine/logit_row.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

using kernels::Candidate;
using kernels::SampledRow;

struct Extremes {
  float max;
  bool finite;
};

// Independent lanes, so that the compiler may use vector registers; max and the sum of zeros are
// the same whatever the order.
Extremes Scan(absl::Span<const float> logits) {
  constexpr size_t kLanes = 16;
  float max[kLanes], zeros[kLanes];
  std::fill_n(max, kLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(zeros, kLanes, 0.0f);
  const size_t whole = logits.size() / kLanes * kLanes;
  const float* data = logits.data();
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = data[i + lane];
      max[lane] = x > max[lane] ? x : max[lane];
      zeros[lane] += x * 0.0f;  // NaN once x was NaN or infinite
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    max[0] = data[i] > max[0] ? data[i] : max[0];
    zeros[0] += data[i] * 0.0f;
  }
  bool finite = true;
  for (float zero : zeros) finite = finite && zero == 0.0f;
  return {*std::max_element(max, max + kLanes), finite};
}

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

}  // namespace

double LogAddExp(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  if (low == kForbidden) return high;
  return high + std::log1p(std::exp(low - high));
}

absl::Status NotFiniteError(int64_t sequence_id, int64_t position) {
  return absl::InternalError(absl::StrCat("sequence ", sequence_id, ", position ", position,
                                          ": the logits hold a NaN or an infinity"));
}

LogitRow OwnPart(absl::Span<const float> logits, size_t row, const v1::Range& own) {
  const size_t width = own.end() - own.begin();
  return {logits.subspan(row * width, width), own.begin()};
}

SampledRow LogitRow::Greedy() const {
  const Extremes extremes = Scan(logits);
  if (!extremes.finite) return {};
  return FirstOf(extremes.max);
}

SampledRow LogitRow::GreedyOfAllowed() const {
  const float max = Scan(logits).max;
  if (max == kForbidden) return {.id = kernels::kNothingToSample};
  return FirstOf(max);
}

SampledRow LogitRow::FirstOf(float max) const {
  const auto at = std::find(logits.begin(), logits.end(), max);
  const int32_t id = first_id + static_cast<int32_t>(at - logits.begin());
  return {.score = max, .id = id, .logit = max, .greedy_id = id, .greedy_logit = max};
}

SampledRow LogitRow::Sampled(double temperature, const kernels::NoiseRow& noise,
                             const SampledRow& greedy) const {
  if (greedy.id < 0) return greedy;
  SampledRow best = greedy;  // a good contender first: most others then fail the bound
  best.score = best.logit / temperature + noise.Gumbel(best.id);
  for (size_t i = 0; i < logits.size(); ++i) {
    const int32_t id = first_id + static_cast<int32_t>(i);
    const double scaled = logits[i] / temperature;
    if (scaled + noise.GumbelBound(id) < best.score) continue;
    const double score = scaled + noise.Gumbel(id);
    if (score > best.score || (score == best.score && id < best.id)) {
      best.score = score;
      best.id = id;
      best.logit = logits[i];
    }
  }
  return best;
}

double LogitRow::LogMass(double temperature, float largest) const {
  double mass = 0;
  for (float logit : logits) mass += std::exp((double{logit} - largest) / temperature);
  return largest / temperature + std::log(mass);
}

void LogitRow::Best(int64_t count, std::vector<Candidate>& best) const {
  best.clear();
  const size_t wanted = std::min<size_t>(count, logits.size());
  if (wanted == 0) return;
  // A heap of the best so far, the worst of them on top. Ids ascend, so of equals the earlier
  // stays.
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{logits[i], first_id + static_cast<int32_t>(i)};
    const auto better = [](const Candidate& a, const Candidate& b) { return Better(a, b); };
    if (best.size() < wanted) {
      best.push_back(candidate);
      std::push_heap(best.begin(), best.end(), better);
    } else if (candidate.logit > best.front().logit) {
      std::pop_heap(best.begin(), best.end(), better);
      best.back() = candidate;
      std::push_heap(best.begin(), best.end(), better);
    }
  }
  std::sort(best.begin(), best.end(),
            [](const Candidate& a, const Candidate& b) { return Better(a, b); });
  while (!best.empty() && best.back().logit == kForbidden) best.pop_back();
}

int64_t LogitRow::CountBetter(const Candidate& candidate) const {
  // Two plain counts, which the compiler turns into vector instructions: of equals, the lower ids.
  const int64_t ties_end = std::clamp<int64_t>(int64_t{candidate.id} - first_id, 0, logits.size());
  int64_t count = 0;
  for (int64_t i = 0; i < ties_end; ++i) count += logits[i] >= candidate.logit;
  for (size_t i = ties_end; i < logits.size(); ++i) count += logits[i] > candidate.logit;
  return count;
}

}  // namespace tessera::worker
