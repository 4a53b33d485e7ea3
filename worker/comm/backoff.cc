#include "worker/comm/backoff.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "worker/comm/doorbells.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace tessera::worker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kLongestNap = milliseconds(1);
constexpr int kNapFraction = 16;
// For what nobody rings for: a plan from the coordinator.
constexpr nanoseconds kShortestRungNap = microseconds(500);
// The naps of a rank that has nothing to do.
constexpr nanoseconds kIdle = milliseconds(1000);
constexpr nanoseconds kIdleNap = milliseconds(10);

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Backoff::Wait() {
  if (spins_ < most_spins_) {
    ++spins_;
    Pause();
    return;
  }
  if (start_ == Clock::time_point{}) start_ = Clock::now();
  if (waited_ < yield_until_) {
    sched_yield();
  } else {
    Nap();
  }
  waited_ = Clock::now() - start_;
}

void Backoff::Nap() {
  nanoseconds nap = std::min(waited_ / kNapFraction, kLongestNap);
  if (bells_ == nullptr) {
    std::this_thread::sleep_for(nap);
    return;
  }
  if (bells_->only_rings()) {
    nap = waited_ > kIdle ? kIdleNap : std::clamp(waited_ / 2, kShortestRungNap, kLongestNap);
  }
  if (bells_->Sleep(nap)) {
    spins_ = 0;  // MPI may have to be asked twice before it says what has come
  }
}

}  // namespace tessera::worker
