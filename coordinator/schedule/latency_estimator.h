// How much longer requests and steps take than was expected of them.
//
// RequestLatencyEstimator: from a request's first step to its last, mean and deviation of the
// ratio, as a transport learns round trips (Jacobson, SIGCOMM 1988). It carries what step costs do
// not say: the time between steps, other programs on the machine, requests that come meanwhile.
//
//   latency.Observe(expected_micros, took_micros);
//   if (left < expected * latency.cautious()) ...   // would probably end too late
//
// StepLatencyEstimator: single steps, against what step_cost.h expects of them, which looks past
// outliers. A request's steps take so much longer on average, and the more of them the more surely.
//
//   steps.Observe(expected_micros, took_micros);
//   if (left < steps.Micros(each, count, 2)) ...    // would probably end too late
//
// Pure, deterministic, not thread-safe.
#ifndef TESSERA_COORDINATOR_SCHEDULE_LATENCY_ESTIMATOR_H_
#define TESSERA_COORDINATOR_SCHEDULE_LATENCY_ESTIMATOR_H_

#include <algorithm>
#include <cmath>

#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

class RequestLatencyEstimator {
 public:
  void Observe(double expected, double took) {
    if (!(expected > 0) || !(took > 0)) return;
    const double ratio =
        std::clamp(took / expected, 1 / policy::kFurthestLatency, policy::kFurthestLatency);
    const double off = std::abs(ratio - mean_);
    deviation_ +=
        (off > deviation_ ? policy::kLatencyRise : policy::kLatencyFall) * (off - deviation_);
    mean_ += policy::kLatencyRise * (ratio - mean_);
  }

  double mean() const { return mean_; }
  // Nearly all take less.
  double cautious() const { return mean_ + policy::kLatencyDeviations * deviation_; }

 private:
  double mean_ = 1;
  double deviation_ = policy::kFirstLatencyDeviation;
};

class StepLatencyEstimator {
 public:
  void Observe(double expected, double took) {
    if (!(expected > 0) || !(took > 0)) return;
    const double ratio = took / expected;
    observed_ = std::min(observed_ + 1, policy::kRememberedSteps);
    took_ += (took - took_) / observed_;
    expected_ += (expected - expected_) / observed_;
    square_ += (ratio * ratio - square_) / observed_;
  }

  // What `steps` of them, expected to take `each`, take: with so many deviations added.
  double Micros(double each, double steps, double deviations) const {
    if (observed_ == 0 || steps <= 0) return each * std::max(0.0, steps);
    const double mean = took_ / expected_;
    const double deviation = std::sqrt(std::max(0.0, square_ - mean * mean));
    return each * (steps * mean + deviations * deviation * std::sqrt(steps));
  }

 private:
  double observed_ = 0;
  double took_ = 0;  // averages
  double expected_ = 0;
  double square_ = 0;  // of the ratio
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_LATENCY_ESTIMATOR_H_
