// Waiting by polling without wasting a core: spin briefly, then yield, then nap.
//
// The caller polls; each time it finds nothing it calls Wait(), and after it found something it
// calls Reset(). Successive waits cost more and more latency and less and less processor:
//
//   the first 64 waits   a pause instruction each: an answer already on its way
//   up to 1 ms           sched_yield: ranks beyond the cores make progress
//   from then on         naps of 1/16 of the time waited so far, at most 1 ms: a nap delays an
//                        answer by that fraction at most, and an endless wait costs well below
//                        2% of a core as long as one poll takes a few microseconds
//
// waited() is what a deadline is compared with; it costs no clock reading of its own.
// Threads: one Backoff belongs to one thread.
//
//   for (Backoff backoff; !Poll(); backoff.Wait()) {
//     if (backoff.waited() >= deadline) return TooLate();
//   }
#ifndef TESSERA_WORKER_COMM_BACKOFF_H_
#define TESSERA_WORKER_COMM_BACKOFF_H_

#include <chrono>

#include "absl/time/time.h"

namespace tessera::worker {

class Backoff {
 public:
  // Returns after a pause, a yield or a nap, never later than about 1 ms (plus what the operating
  // system adds).
  void Wait();

  // The next Wait starts at the beginning again.
  void Reset() { *this = Backoff(); }

  // Time since the first Wait after construction or Reset, as of the end of the latest Wait. Zero
  // while still spinning.
  absl::Duration waited() const { return absl::FromChrono(waited_); }

 private:
  using Clock = std::chrono::steady_clock;

  int spins_ = 0;
  Clock::time_point start_{};
  std::chrono::nanoseconds waited_{0};
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_BACKOFF_H_
