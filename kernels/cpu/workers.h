// The device's threads, how work is dealt out to them, and scratch memory for each.
//
// Threads: one caller at a time, which takes part.
//
//   Workers workers(4);
//   workers.Split(rows, 16, rows * cols >= kMinParallelElements,
//                 [&](int64_t begin, int64_t end, int thread) { ... });
#ifndef TESSERA_KERNELS_CPU_WORKERS_H_
#define TESSERA_KERNELS_CPU_WORKERS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace tessera::kernels::cpu {

// Below these sizes a job is done before another thread has heard of it.
inline constexpr int64_t kMinParallelMacs = 64 * 1024;
inline constexpr int64_t kMinParallelElements = 8 * 1024;

// Memory aligned to 64 bytes. Grows, never shrinks; what it held is lost when it grows.
class Scratch {
 public:
  template <typename T>
  T* Get(int64_t count) {
    constexpr size_t kAlignment = 64;
    const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > size_) {
      data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = bytes;
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

class Workers {
 public:
  // More parts than threads: a thread that is held up leaves its share to the others.
  static constexpr int kPartsPerThread = 4;

  explicit Workers(int threads) : pool_(threads), scratch_(threads) {}

  int threads() const { return pool_.threads(); }
  // The scratch of thread `thread`, its own for the time of one job.
  Scratch& scratch(int thread) { return scratch_[thread]; }

  // work(begin, end, thread) over [0, count) in pieces of a multiple of `granularity`; all of it at
  // once on the caller's thread unless `parallel`.
  template <typename Work>
  void Split(int64_t count, int64_t granularity, bool parallel, const Work& work) {
    Split(count, granularity, parallel, kPartsPerThread, work);
  }
  template <typename Work>
  void Split(int64_t count, int64_t granularity, bool parallel, int parts_per_thread,
             const Work& work) {
    if (count <= 0) return;
    if (threads() == 1 || !parallel) return work(0, count, 0);
    const int64_t units = (count + granularity - 1) / granularity;
    const int parts = static_cast<int>(std::min<int64_t>(units, threads() * parts_per_thread));
    pool_.Run(parts, [&](int part, int thread) {
      const int64_t begin = units * part / parts * granularity;
      const int64_t end = std::min(count, units * (part + 1) / parts * granularity);
      work(begin, end, thread);
    });
  }

 private:
  ThreadPool pool_;
  std::vector<Scratch> scratch_;  // one per thread
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_WORKERS_H_
