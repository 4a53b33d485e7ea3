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

constexpr int kTries = 20;
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

double ReadSpeed(size_t bytes, int threads) {
  const size_t mapped = (bytes / kHugePage + 2) * kHugePage;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  madvise(memory, mapped, MADV_HUGEPAGE);
  std::memset(memory, 1, mapped);

  using Clock = std::chrono::steady_clock;
  const size_t part = bytes / threads / sizeof(uint64_t);
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    std::atomic<int> waiting{threads};
    std::vector<Clock::time_point> began(threads), ended(threads);
    std::vector<std::thread> readers;
    for (int i = 0; i < threads; ++i) {
      readers.emplace_back([&, i] {
        const uint64_t* mine = static_cast<const uint64_t*>(memory) + part * i;
        for (--waiting; waiting > 0;) std::this_thread::yield();
        began[i] = Clock::now();
        sink += SumOf(mine, part);
        ended[i] = Clock::now();
      });
    }
    for (std::thread& reader : readers) reader.join();
    const std::chrono::duration<double> took = *std::max_element(ended.begin(), ended.end()) -
                                               *std::min_element(began.begin(), began.end());
    best = std::max(best, static_cast<double>(bytes) / took.count());
  }
  munmap(memory, mapped);
  return best;
}

}  // namespace tessera::worker
