#include "worker/comm/backoff.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace tessera::worker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int kSpins = 64;
constexpr nanoseconds kLongestNap = milliseconds(1);
constexpr int kNapFraction = 16;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Backoff::Wait() {
  if (spins_ < kSpins) {
    ++spins_;
    Pause();
    return;
  }
  if (start_ == Clock::time_point{}) start_ = Clock::now();
  if (waited_ < yield_until_) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::min(waited_ / kNapFraction, kLongestNap));
  }
  waited_ = Clock::now() - start_;
}

}  // namespace tessera::worker
