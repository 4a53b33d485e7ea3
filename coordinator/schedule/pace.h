// How much longer requests take, from their first step to their last, than was expected when they
// began: mean and deviation of that ratio, as a transport learns round trips (Jacobson, SIGCOMM
// 1988). It carries what step costs do not say: the time between steps, other programs on the
// machine, requests that come meanwhile.
//
//   pace.Observe(expected_micros, took_micros);
//   if (left < expected * pace.cautious()) ...   // would probably end too late
//
// Pure, deterministic, not thread-safe.
#ifndef TESSERA_COORDINATOR_SCHEDULE_PACE_H_
#define TESSERA_COORDINATOR_SCHEDULE_PACE_H_

#include <algorithm>
#include <cmath>

namespace tessera::coordinator {

class Pace {
 public:
  void Observe(double expected, double took) {
    if (!(expected > 0) || !(took > 0)) return;
    const double ratio = std::clamp(took / expected, 1 / kFurthest, kFurthest);
    const double off = std::abs(ratio - mean_);
    deviation_ += (off > deviation_ ? kRise : kFall) * (off - deviation_);
    mean_ += kRise * (ratio - mean_);
  }

  double mean() const { return mean_; }
  double cautious() const { return mean_ + kDeviations * deviation_; }  // nearly all take less

 private:
  static constexpr double kRise = 1.0 / 8;
  static constexpr double kFall = 1.0 / 64;  // one calm second says little about the next
  static constexpr double kDeviations = 4;
  static constexpr double kFurthest = 10;  // a ratio beyond it says no more

  double mean_ = 1;
  double deviation_ = 0.0625;  // cautious() is 1.25 before anything is known
};

// The same of single steps, in what step_cost.h expects of them, which looks past outliers. A
// request's steps take so much longer on average, and the more of them the more surely.
//
//   noise.Observe(expected_micros, took_micros);
//   if (left < noise.Micros(step, steps, 2)) ...   // would probably end too late
class StepNoise {
 public:
  void Observe(double expected, double took) {
    if (!(expected > 0) || !(took > 0)) return;
    const double ratio = took / expected;
    observed_ = std::min(observed_ + 1, kRemembered);
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
  static constexpr double kRemembered = 256;  // steps

  double observed_ = 0;
  double took_ = 0;  // averages
  double expected_ = 0;
  double square_ = 0;  // of the ratio
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PACE_H_
