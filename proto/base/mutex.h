// The lock of this tree: std::mutex with the attributes by which clang's -Wthread-safety proves who
// holds it. absl::Mutex has those too, but ThreadSanitizer does not know an absl::Mutex of a library
// that was not built for it, and then reports races that are none.
//
// Called as absl::Mutex is, but for Condition: wait for a CondVar in a loop that reads as the
// condition does.
//
//   mutable Mutex mu_;
//   CondVar changed_;
//   bool ready_ ABSL_GUARDED_BY(mu_) = false;
//   ...
//   MutexLock lock(&mu_);
//   while (!ready_) changed_.Wait(&mu_);
#ifndef TESSERA_PROTO_BASE_MUTEX_H_
#define TESSERA_PROTO_BASE_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tessera {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mu_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mu_.unlock(); }
  // For the analysis alone, where it cannot see that the lock is held (in a lambda, say).
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}

 private:
  friend class CondVar;
  std::mutex mu_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) { mu_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mu_;
};

// Waits may end for no reason; all of them hold the lock again when they return.
class CondVar {
 public:
  void Signal() { condition_.notify_one(); }
  void SignalAll() { condition_.notify_all(); }

  void Wait(Mutex* mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    std::unique_lock<std::mutex> held(mu->mu_, std::adopt_lock);
    condition_.wait(held);
    (void)held.release();
  }
  // True when `deadline` has passed. One that never comes is waited for by the day.
  bool WaitWithDeadline(Mutex* mu, absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    std::unique_lock<std::mutex> held(mu->mu_, std::adopt_lock);
    if (deadline - absl::Now() > kFar) {
      condition_.wait_for(held, absl::ToChronoHours(kFar));
    } else {
      condition_.wait_until(held, absl::ToChronoTime(deadline));
    }
    (void)held.release();
    return absl::Now() >= deadline;
  }

 private:
  static constexpr absl::Duration kFar = absl::Hours(24);  // the library's own clocks overflow
  std::condition_variable condition_;
};

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_MUTEX_H_
