// Waiting by polling without wasting a core: spin briefly, then yield, then nap.
//
// The caller polls; each time it finds nothing it calls Wait(), and after it found something it
// calls Reset(). Successive waits cost more and more latency and less and less processor:
//
//   the first 64 spins   a pause instruction each: an answer already on its way
//   up to yield_until    sched_yield: ranks beyond the cores make progress
//   from then on         naps of 1/16 of the time waited so far, at most 1 ms: a nap delays an
//                        answer by that fraction at most, and an endless wait costs well below
//                        2% of a core as long as one poll takes a few microseconds
//
// With doorbells (doorbells.h) naps end when somebody rings, and are long while nothing else ends
// the wait: half a millisecond to one, and 10 ms after a second.
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

class Doorbells;

struct Patience {
  int spins = 64;
  absl::Duration yield_until = absl::Milliseconds(1);
  Doorbells* bells = nullptr;  // end naps
};

class Backoff {
 public:
  Backoff() : Backoff(Patience()) {}
  explicit Backoff(const Patience& patience)
      : most_spins_(patience.spins),
        yield_until_(absl::ToChronoNanoseconds(patience.yield_until)),
        bells_(patience.bells) {}

  // Returns after a pause, a yield or a nap, and what the operating system adds.
  void Wait();

  // The next Wait starts at the beginning again.
  void Reset() {
    spins_ = 0;
    start_ = {};
    waited_ = {};
  }

  // Time since the first Wait after construction or Reset, as of the end of the latest Wait. Zero
  // while still spinning.
  absl::Duration waited() const { return absl::FromChrono(waited_); }

 private:
  using Clock = std::chrono::steady_clock;

  void Nap();

  int most_spins_;
  std::chrono::nanoseconds yield_until_;
  Doorbells* bells_;
  int spins_ = 0;
  Clock::time_point start_{};
  std::chrono::nanoseconds waited_{0};
};

// How long to yield for a GPU: its steps take milliseconds, of which a nap would be a part.
inline constexpr Patience kGpuStep = {.yield_until = absl::Milliseconds(200)};

// Waiting for a rank that needs this core. Few polls, for each may yield in MPI and take long.
inline constexpr Patience kSharedCore = {.spins = 4, .yield_until = absl::Microseconds(20)};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_BACKOFF_H_
