#include "coordinator/schedule/step_cost.h"

#include <algorithm>
#include <climits>
#include <cmath>

#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {
namespace {

constexpr int kTerms = 4;                       // 1, decodes, prompt tokens, attended
constexpr unsigned kWithoutAttended = 1U << 3;  // sets of terms below it, a bit each
constexpr double kRidge = 1e-9;  // decides between equal fits: the smaller coefficients

using Terms = double[kTerms];

double Dot(const Terms a, const Terms b) {
  double sum = 0;
  for (int i = 0; i < kTerms; ++i) sum += a[i] * b[i];
  return sum;
}

int DecodeKind(int decodes) {
  return decodes < 1 ? 0 : decodes < 4 ? 1 : decodes < 16 ? 2 : decodes < 64 ? 3 : 4;
}

int PrefillKind(int tokens) { return tokens < 1 ? 0 : tokens < 32 ? 1 : tokens < 256 ? 2 : 3; }

// Solves for the terms in `used` (a bit each), scaled so that the matrix has a unit diagonal, by
// Gaussian elimination. False when they cannot be told apart or a coefficient would be negative.
bool Solve(const double moments[kTerms][kTerms], const double products[kTerms], unsigned used,
           Terms solution) {
  double rows[kTerms][kTerms + 1];
  double scale[kTerms];
  int index[kTerms];
  int count = 0;
  for (int i = 0; i < kTerms; ++i) {
    solution[i] = 0;
    if ((used >> i & 1U) == 0) continue;
    if (moments[i][i] <= 0) return false;
    scale[count] = 1 / std::sqrt(moments[i][i]);
    index[count++] = i;
  }
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < count; ++j) {
      rows[i][j] = moments[index[i]][index[j]] * scale[i] * scale[j] + (i == j ? kRidge : 0);
    }
    rows[i][count] = products[index[i]] * scale[i];
  }
  for (int pivot = 0; pivot < count; ++pivot) {
    if (rows[pivot][pivot] < kRidge / 2) return false;
    for (int i = pivot + 1; i < count; ++i) {
      const double factor = rows[i][pivot] / rows[pivot][pivot];
      for (int j = pivot; j <= count; ++j) rows[i][j] -= factor * rows[pivot][j];
    }
  }
  for (int i = count - 1; i >= 0; --i) {
    double value = rows[i][count];
    for (int j = i + 1; j < count; ++j) value -= rows[i][j] * solution[index[j]] / scale[j];
    solution[index[i]] = value / rows[i][i] * scale[i];
    if (!(solution[index[i]] >= 0)) return false;
  }
  return true;
}

// What is left of the sum of squares; less is better. A constant of the data is left out.
double Loss(const double moments[kTerms][kTerms], const double products[kTerms],
            const Terms solution) {
  double loss = -2 * Dot(products, solution);
  for (int i = 0; i < kTerms; ++i) loss += solution[i] * Dot(moments[i], solution);
  return loss;
}

}  // namespace

void StepCost::Observe(const StepShape& shape, int64_t micros) {
  if (micros <= 0 || shape.decodes < 0 || shape.prefill_tokens < 0 || shape.attended < 0) return;
  if (shape.decodes == 0 && shape.prefill_tokens == 0) return;
  const bool has_prefill = shape.prefill_tokens > 0;
  const double seen = static_cast<double>(micros);
  const double predicted = known() ? std::max(PredictMicros(shape), 1.0) : seen;
  const double trust = trust_[has_prefill].Weigh((seen - predicted) / predicted);
  for (auto& kinds : kinds_) {
    for (int i = 0; i < kPrefillKinds; ++i) {
      if (kinds[i].weight > policy::kLeastWeight) kinds[i].Scale(policy::kKeepOthers);
      if (trust_[has_prefill].changed() && (i > 0) == has_prefill)
        kinds[i].Scale(policy::kKeepChanged);
    }
  }
  Moments& kind = kinds_[DecodeKind(shape.decodes)][PrefillKind(shape.prefill_tokens)];
  kind.Scale(policy::kKeep);
  kind.weight += trust;
  // Relative errors count: a step of 2 ms says as much of the machine as one of 200 ms.
  kind.Add(shape, seen, trust / (predicted * predicted));
  ++observed_;
  (has_prefill ? seen_prefill_ : seen_decodes_) = true;
  Fit();
}

double StepCost::Trust::Weigh(double error) {
  const double off = std::abs(error);
  const double free = policy::kFreeDeviations * std::max(deviation, policy::kLeastDeviation);
  deviation += policy::kDeviationRate * (std::min(off, free) - deviation);
  if (off <= free) {
    streak = 0;
    return 1;
  }
  const int sign = error > 0 ? 1 : -1;
  streak = streak * sign > 0 ? streak + sign : sign;
  return changed() ? 1 : free / off;
}

void StepCost::Moments::Scale(double factor) {
  weight *= factor;
  for (auto& row : terms) {
    for (double& value : row) value *= factor;
  }
  for (double& value : products) value *= factor;
}

void StepCost::Moments::Add(const StepShape& shape, double micros, double factor) {
  const Terms x = {1, static_cast<double>(shape.decodes), static_cast<double>(shape.prefill_tokens),
                   static_cast<double>(shape.attended)};
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j < kTerms; ++j) terms[i][j] += factor * x[i] * x[j];
    products[i] += factor * x[i] * micros;
  }
}

// Non-negative least squares: with four terms, the best of the fifteen ways to leave some out.
void StepCost::Fit() {
  Moments all;
  for (const auto& kinds : kinds_) {
    for (const Moments& kind : kinds) {
      for (int i = 0; i < kTerms; ++i) {
        for (int j = 0; j < kTerms; ++j) all.terms[i][j] += kind.terms[i][j];
        all.products[i] += kind.products[i];
      }
    }
  }
  double least = HUGE_VAL;
  for (unsigned used = 1; used < 1U << kTerms; ++used) {
    // The loss without what is left out of it is about minus the weight of all steps.
    if (used == kWithoutAttended) least -= policy::kAttentionPays * std::abs(least);
    Terms solution;
    if (!Solve(all.terms, all.products, used, solution)) continue;
    const double loss = Loss(all.terms, all.products, solution);
    if (loss >= least) continue;
    least = loss;
    std::copy(solution, solution + kTerms, coefficients_);
  }
}

bool StepCost::known() const {
  return observed_ >= policy::kFewestStepsToFit && seen_decodes_ && seen_prefill_;
}

double StepCost::PredictMicros(const StepShape& shape) const {
  if (!known()) return 0;
  return coefficients_[0] + coefficients_[1] * shape.decodes +
         coefficients_[2] * shape.prefill_tokens +
         coefficients_[3] * static_cast<double>(shape.attended);
}

double StepCost::PrefillMicros(int decodes, double stretch) const {
  if (decodes < 1 || !known()) return HUGE_VAL;
  return (stretch - 1) * PredictMicros({.decodes = decodes});
}

double StepCost::PromptMicros(int tokens, int context) const {
  if (!known()) return 0;
  return coefficients_[2] * tokens +
         coefficients_[3] * static_cast<double>(Attended(tokens, context));
}

int StepCost::WorthAStep() const {
  if (!known()) return 0;
  return PromptTokens(policy::kWorthAStep * coefficients_[0], 0);
}

// The root of PromptMicros(n, context) = micros, in a form that needs no attention.
int StepCost::PromptTokens(double micros, int context) const {
  if (micros <= 0) return 0;
  if (std::isinf(micros)) return INT_MAX;
  const double square = coefficients_[3] / 2;
  const double linear = coefficients_[2] + coefficients_[3] * (context + 0.5);
  const double divisor = linear + std::sqrt(linear * linear + 4 * square * micros);
  return 2 * micros >= divisor * INT_MAX ? INT_MAX : static_cast<int>(2 * micros / divisor);
}

}  // namespace tessera::coordinator
