// How fast the queue moves: requests that end per second of the time in which others waited, the
// last half minute counting most. Not thread-safe.
//
//   rate.Observe(absl::Now(), ended, /*busy=*/waiting > 0);
//   wire::OverloadedError(message, rate.TimeFor(waiting));
#ifndef TESSERA_COORDINATOR_ENGINE_DRAIN_RATE_H_
#define TESSERA_COORDINATOR_ENGINE_DRAIN_RATE_H_

#include "absl/time/time.h"

namespace tessera::coordinator {

class DrainRate {
 public:
  // `ended` requests since the last call; `busy`: some waited all the while.
  void Observe(absl::Time now, int ended, bool busy);

  // Until so many requests will have been taken: whole seconds, 1 .. 60. One second while nothing is
  // known.
  absl::Duration TimeFor(int requests) const;

 private:
  absl::Time last_ = absl::InfinitePast();
  double ended_ = 0;         // fading
  double busy_seconds_ = 0;  // likewise
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_DRAIN_RATE_H_
