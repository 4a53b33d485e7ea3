#include "coordinator/engine/drain_rate.h"

#include <algorithm>
#include <cmath>

namespace tessera::coordinator {
namespace {

constexpr double kMemorySeconds = 15;  // after so much busy time an observation counts 1/e
constexpr double kEnoughSeconds = 0.05;
constexpr double kLeastWait = 1, kMostWait = 60;

}  // namespace

void DrainRate::Observe(absl::Time now, int ended, bool busy) {
  const double seconds =
      last_ == absl::InfinitePast() ? 0 : std::max(0.0, absl::ToDoubleSeconds(now - last_));
  last_ = now;
  if (!busy) return;
  const double fading = std::exp(-seconds / kMemorySeconds);
  ended_ = ended_ * fading + ended;
  busy_seconds_ = busy_seconds_ * fading + seconds;
}

absl::Duration DrainRate::TimeFor(int requests) const {
  if (busy_seconds_ < kEnoughSeconds) return absl::Seconds(kLeastWait);
  const double wait = ended_ > 0 ? requests * busy_seconds_ / ended_ : kMostWait;
  return absl::Seconds(std::clamp(std::ceil(wait), kLeastWait, kMostWait));
}

}  // namespace tessera::coordinator
