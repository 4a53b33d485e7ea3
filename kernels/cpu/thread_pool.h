// A few threads that share the parts of one job at a time. The caller takes part.
//
// Every thread begins with parts of its own, of jobs of as many parts always the same ones, so that
// it finds in its caches what it wrote in the job before; it takes those of others, the last first,
// once it has none left. Threads may sit far apart (caches of their own, or memory): then what moves
// between them costs more than what they compute.
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

  int threads() const { return static_cast<int>(own_.size()); }

  // function(part, thread) for every part in [0, parts), each once, in any order and at once. At
  // most 65,535 parts.
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
  // Takes parts of job `generation`, its own first, until all are claimed or another job has begun.
  void TakeParts(uint32_t generation, int thread);
  // Claims one of those that `owner` has left: its first, or its last.
  bool Claim(uint32_t generation, int owner, bool first, int* part);
  // Waits until the job is not `seen`, spinning first. Returns the new one.
  uint32_t AwaitJob(uint32_t seen);

  // The current job. A worker may read these while a later job writes them; its claim then fails
  // and what it read is dropped: a job is written only once nothing of the one before is unclaimed.
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};

  // A thread's parts that nobody has claimed: generation of the job (32 bits), begin, end (16 each).
  struct alignas(64) Own {
    std::atomic<uint64_t> unclaimed{0};
  };
  std::vector<Own> own_;  // by thread
  alignas(64) std::atomic<uint32_t> generation_{0};  // written after all of own_
  alignas(64) std::atomic<int> done_{0};             // parts

  std::atomic<bool> stopping_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;  // for sleeping only
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_THREAD_POOL_H_
