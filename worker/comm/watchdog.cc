#include "worker/comm/watchdog.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace tessera::worker {

Watchdog::Watchdog(const char* what, absl::Duration limit)
    : thread_([this, what, limit] { Watch(what, limit); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::Watch(const char* what, absl::Duration limit) {
  const auto expiry = std::chrono::steady_clock::now() +
                      absl::ToChronoNanoseconds(std::min(limit, absl::Hours(24)));
  std::unique_lock<std::mutex> lock(mutex_);
  if (changed_.wait_until(lock, expiry, [this] { return done_; })) return;
  std::fprintf(stderr, "%s did not return within %s: exiting\n", what,
               absl::FormatDuration(limit).c_str());
  std::_Exit(1);
}

}  // namespace tessera::worker
