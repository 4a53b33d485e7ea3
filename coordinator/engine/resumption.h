// How long the streams of a lost group stood still: the time from the loss until every request that
// was moved has a new token, or has ended. Any thread.
//
//   auto resumption = std::make_shared<Resumption>(lost_at, moved);
//   resumption->OneResumed(now);            // once for each
//   if (auto took = resumption->took()) ...
#ifndef TESSERA_COORDINATOR_ENGINE_RESUMPTION_H_
#define TESSERA_COORDINATOR_ENGINE_RESUMPTION_H_

#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class Resumption {
 public:
  Resumption(absl::Time lost_at, int requests) : lost_at_(lost_at), left_(requests) {}

  void OneResumed(absl::Time now) {
    MutexLock lock(&mu_);
    if (--left_ == 0) took_ = now - lost_at_;
  }
  // Nothing while somebody still waits.
  std::optional<absl::Duration> took() const {
    MutexLock lock(&mu_);
    return took_;
  }

 private:
  const absl::Time lost_at_;
  mutable Mutex mu_;
  int left_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Duration> took_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_RESUMPTION_H_
