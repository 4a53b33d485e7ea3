#include "kernels/cpu/thread_pool.h"

namespace tessera::kernels::cpu {
namespace {

// About 50 microseconds: the pauses between a step's jobs, not those between steps.
constexpr int kSpins = 400;
constexpr int kSpinsBeforeYield = 64;

uint32_t GenerationOf(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
int UnclaimedOf(uint64_t ticket) { return static_cast<int>(ticket & 0xffffffffu); }

// One turn of a waiting loop. Others may need this core to get done what is waited for.
void Pause(int spin) {
  if (spin >= kSpinsBeforeYield) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
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
  const uint32_t generation = GenerationOf(ticket_.load(std::memory_order_relaxed)) + 1;
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  parts_.store(parts, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  // Publishes the job. Sequentially consistent with sleepers_: either the worker that is about to
  // sleep sees the ticket, or it is seen here and woken.
  ticket_.store(static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(parts));
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  TakeParts(generation, /*thread=*/0);
  for (int spin = 0; done_.load(std::memory_order_acquire) < parts; ++spin) {
    Pause(spin < kSpins ? spin : kSpins);
  }
}

void ThreadPool::TakeParts(uint32_t generation, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (GenerationOf(ticket) == generation && UnclaimedOf(ticket) > 0) {
    const Call call = call_.load(std::memory_order_relaxed);
    void* context = context_.load(std::memory_order_relaxed);
    const int part = parts_.load(std::memory_order_relaxed) - UnclaimedOf(ticket);
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    call(context, part, thread);
    done_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

uint32_t ThreadPool::AwaitJob(uint32_t seen) {
  const auto has_news = [&] { return GenerationOf(ticket_.load()) != seen || stopping_.load(); };
  for (int spin = 0; spin < kSpins; ++spin) {
    if (has_news()) return GenerationOf(ticket_.load());
    Pause(spin);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  wake_.wait(lock, has_news);
  sleepers_.fetch_sub(1);
  return GenerationOf(ticket_.load());
}

void ThreadPool::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (!stopping_.load()) {
    seen = AwaitJob(seen);
    TakeParts(seen, thread);
  }
}

}  // namespace tessera::kernels::cpu
