#include "kernels/cpu/thread_pool.h"

#include <cassert>
#include <chrono>

namespace tessera::kernels::cpu {
namespace {

// The pauses between a step's jobs, not those between steps. By the clock: a yield to somebody who
// has work takes as long as that.
constexpr std::chrono::microseconds kPatience(50);
constexpr int kSpinsBeforeYield = 64;

constexpr int kMaxParts = 0xffff;

// What a thread's word says (ThreadPool::Own).
struct Unclaimed {
  uint32_t generation;
  uint32_t begin;
  uint32_t end;
};
uint64_t Pack(const Unclaimed& u) {
  return uint64_t{u.generation} << 32 | uint64_t{u.begin} << 16 | u.end;
}
Unclaimed Unpack(uint64_t word) {
  return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word >> 16 & kMaxParts),
          static_cast<uint32_t>(word & kMaxParts)};
}

// One turn of a waiting loop that has spun so often. Others may need this core to get done what is
// waited for.
void Pause(int& spins) {
  if (spins >= kSpinsBeforeYield) {
    std::this_thread::yield();
    return;
  }
  ++spins;
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : own_(threads) {
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunParts(int parts, Call call, void* context) {
  if (workers_.empty() || parts <= 1) {
    for (int part = 0; part < parts; ++part) call(context, part, 0);
    return;
  }
  assert(parts <= kMaxParts);
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const auto first_of = [&](int thread) {
    return static_cast<uint32_t>((int64_t{parts} * thread + threads() - 1) / threads());
  };
  for (int thread = 0; thread < threads(); ++thread) {
    own_[thread].unclaimed.store(Pack({generation, first_of(thread), first_of(thread + 1)}),
                                 std::memory_order_release);
  }
  // Sequentially consistent with sleepers_: either the worker that is about to sleep sees the job,
  // or it is seen here and woken.
  generation_.store(generation);
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  TakeParts(generation, /*thread=*/0);
  for (int spins = 0; done_.load(std::memory_order_acquire) < parts;) Pause(spins);
}

bool ThreadPool::Claim(uint32_t generation, int owner, bool first, int* part) {
  std::atomic<uint64_t>& word = own_[owner].unclaimed;
  uint64_t seen = word.load(std::memory_order_acquire);
  while (true) {
    Unclaimed unclaimed = Unpack(seen);
    if (unclaimed.generation != generation || unclaimed.begin >= unclaimed.end) return false;
    *part = static_cast<int>(first ? unclaimed.begin++ : --unclaimed.end);
    if (word.compare_exchange_weak(seen, Pack(unclaimed), std::memory_order_acq_rel,
                                   std::memory_order_acquire)) {
      return true;
    }
  }
}

void ThreadPool::TakeParts(uint32_t generation, int thread) {
  int done = 0;
  // Read before a claim, so of this job if the claim succeeds: it does not end before that part.
  const Call call = call_.load(std::memory_order_relaxed);
  void* context = context_.load(std::memory_order_relaxed);
  for (int i = 0; i < threads(); ++i) {
    const int owner = (thread + i) % threads();
    for (int part; Claim(generation, owner, /*first=*/i == 0, &part); ++done) {
      call(context, part, thread);
    }
  }
  if (done > 0) done_.fetch_add(done, std::memory_order_release);
}

uint32_t ThreadPool::AwaitJob(uint32_t seen) {
  const auto has_news = [&] { return generation_.load() != seen || stopping_.load(); };
  const auto asleep_at = std::chrono::steady_clock::now() + kPatience;
  for (int spins = 0; spins < kSpinsBeforeYield || std::chrono::steady_clock::now() < asleep_at;) {
    if (has_news()) return generation_.load();
    Pause(spins);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  wake_.wait(lock, has_news);
  sleepers_.fetch_sub(1);
  return generation_.load();
}

void ThreadPool::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (!stopping_.load()) {
    seen = AwaitJob(seen);
    TakeParts(seen, thread);
  }
}

}  // namespace tessera::kernels::cpu
