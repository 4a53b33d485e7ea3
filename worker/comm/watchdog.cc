#include "worker/comm/watchdog.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/time/clock.h"

namespace tessera::worker {

Watchdog::Watchdog(const char* what, absl::Duration limit)
    : thread_([this, what, limit] { Watch(what, limit); }) {}

Watchdog::~Watchdog() {
  {
    MutexLock lock(&mu_);
    done_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void Watchdog::Watch(const char* what, absl::Duration limit) {
  const absl::Time expiry = absl::Now() + std::min(limit, absl::Hours(24));
  MutexLock lock(&mu_);
  bool late = false;
  while (!done_ && !late) late = changed_.WaitWithDeadline(&mu_, expiry);
  if (done_) return;
  std::fprintf(stderr, "%s did not return within %s: exiting\n", what,
               absl::FormatDuration(limit).c_str());
  std::_Exit(1);
}

}  // namespace tessera::worker
