#include "benchmarks/engine/read_speed.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace tessera::worker {
namespace {

constexpr int kTries = 5;
constexpr size_t kHugePage = size_t{2} << 20;

// Enough independent sums that the loads, not the additions, set the pace.
uint64_t SumOf(const uint64_t* data, size_t count) {
  uint64_t sums[16] = {};
  for (size_t i = 0; i + 16 <= count; i += 16) {
    for (size_t k = 0; k < 16; ++k) sums[k] += data[i + k];
  }
  uint64_t sum = 0;
  for (uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

ReadMeter::ReadMeter(size_t bytes, int threads)
    : bytes_(bytes), threads_(threads), mapped_((bytes / kHugePage + 2) * kHugePage) {
  void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  memory_ = memory;
  madvise(memory_, mapped_, MADV_HUGEPAGE);
  std::memset(memory_, 1, mapped_);
}

ReadMeter::~ReadMeter() {
  if (memory_ != nullptr) munmap(memory_, mapped_);
}

double ReadMeter::Measure() {
  double speeds[kTries];
  for (double& speed : speeds) speed = MeasureOnce();
  std::nth_element(speeds, speeds + kTries / 2, speeds + kTries);
  return speeds[kTries / 2];
}

double ReadMeter::MeasureOnce() {
  using Clock = std::chrono::steady_clock;
  const size_t part = bytes_ / threads_ / sizeof(uint64_t);
  std::atomic<uint64_t> sink{0};
  std::atomic<int> waiting{threads_};
  std::vector<Clock::time_point> began(threads_), ended(threads_);
  std::vector<std::thread> readers;
  readers.reserve(threads_);
  for (int i = 0; i < threads_; ++i) {
    readers.emplace_back([&, i] {
      const uint64_t* mine = static_cast<const uint64_t*>(memory_) + part * i;
      for (--waiting; waiting > 0;) std::this_thread::yield();
      began[i] = Clock::now();
      sink += SumOf(mine, part);
      ended[i] = Clock::now();
    });
  }
  for (std::thread& reader : readers) reader.join();
  const std::chrono::duration<double> took = *std::max_element(ended.begin(), ended.end()) -
                                             *std::min_element(began.begin(), began.end());
  return static_cast<double>(bytes_) / took.count();
}

}  // namespace tessera::worker
