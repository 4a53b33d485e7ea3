// When a request came, first ran and gave its tokens: what the metrics tell of it. Not thread-safe;
// one per request.
//
//   RequestTimes times(arrival, choices);
//   times.Token(choice, now, metrics);
//   metrics->RequestEnded(times.Ended(now));
#ifndef TESSERA_COORDINATOR_ENGINE_REQUEST_TIMES_H_
#define TESSERA_COORDINATOR_ENGINE_REQUEST_TIMES_H_

#include <vector>

#include "absl/time/time.h"
#include "coordinator/engine/metrics.h"

namespace tessera::coordinator {

class RequestTimes {
 public:
  RequestTimes(absl::Time arrival, int choices);

  void FirstStep(absl::Time now);  // only the first call counts
  void Token(int choice, absl::Time now, Metrics& metrics);

  // Its times alone: the caller knows how it ended and how many tokens it had.
  EndedRequest Ended(absl::Time now) const;

 private:
  absl::Time arrival_;
  absl::Time first_step_ = absl::InfiniteFuture();
  bool had_token_ = false;
  std::vector<absl::Time> last_token_;  // by choice; InfinitePast before its first
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_REQUEST_TIMES_H_
