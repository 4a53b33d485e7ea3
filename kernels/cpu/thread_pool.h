// A few threads that share the parts of one job at a time. The caller takes part.
//
// With threads = 1 no thread is started and Run is a loop. Idle workers spin briefly (a decoder's
// jobs follow each other within microseconds), yielding to whoever else wants the core, and then
// sleep until the next job: an idle pool uses no CPU. Run returns when every part is done; a worker
// that wakes up late finds nothing left and is not waited for.
//
// Threads: Run by one caller at a time. The destructor joins the workers.
//
//   ThreadPool pool(4);
//   pool.Run(parts, [&](int part, int thread) { ... });  // thread < 4: whose scratch to use
#ifndef TESSERA_KERNELS_CPU_THREAD_POOL_H_
#define TESSERA_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace tessera::kernels::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // function(part, thread) for every part in [0, parts), each once, in any order and at once.
  template <typename Function>
  void Run(int parts, Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    const auto call = [](void* context, int part, int thread) {
      (*static_cast<Plain*>(context))(part, thread);
    };
    RunParts(parts, call, &function);
  }

 private:
  using Call = void (*)(void* context, int part, int thread);

  void RunParts(int parts, Call call, void* context);
  void WorkerLoop(int thread);
  // Takes parts of job `generation` until none is left or another job has begun.
  void TakeParts(uint32_t generation, int thread);
  // Waits until the ticket's job is not `seen`, spinning first. Returns the new one.
  uint32_t AwaitJob(uint32_t seen);

  // The current job. A worker may read these while a later job writes them; its claim on the ticket
  // then fails and what it read is dropped: a job is written only once nothing of the one before is
  // unclaimed, and with nothing unclaimed there is no claim.
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int> parts_{0};

  // High half: the job's generation; low half: how many of its parts are unclaimed.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};

  std::atomic<bool> stopping_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;  // for sleeping only
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_THREAD_POOL_H_
