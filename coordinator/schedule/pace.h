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

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_PACE_H_
