#include "coordinator/engine/request_times.h"

#include <algorithm>
#include <utility>

namespace tessera::coordinator {

RequestTimes::RequestTimes(absl::Time arrival, int choices)
    : arrival_(arrival), last_token_(static_cast<size_t>(choices), absl::InfinitePast()) {}

void RequestTimes::FirstStep(absl::Time now) { first_step_ = std::min(first_step_, now); }

void RequestTimes::Token(int choice, absl::Time now, Metrics& metrics) {
  if (!std::exchange(had_token_, true)) metrics.FirstToken(now - arrival_);
  const absl::Time before = std::exchange(last_token_[static_cast<size_t>(choice)], now);
  if (before != absl::InfinitePast()) metrics.InterToken(now - before);
}

EndedRequest RequestTimes::Ended(absl::Time now) const {
  EndedRequest ended;
  ended.end_to_end = now - arrival_;
  ended.queued = std::min(now, first_step_) - arrival_;
  return ended;
}

}  // namespace tessera::coordinator
