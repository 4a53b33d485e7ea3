#include "benchmarks/kernels/floors.h"

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "benchmarks/kernels/floor_loops.h"

namespace tessera::kernels {
namespace {

constexpr double kSecondsPerTry = 0.02;
constexpr int kTries = 7;

const cpu::FloorLoops& LoopsOf(const std::string& instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == "avx2") return cpu::avx2::kFloorLoops;
  if (instruction_set == "avx512") return cpu::avx512::kFloorLoops;
#endif
  return cpu::scalar::kFloorLoops;
}

// This thread's processor time, as the benchmarks are counted: others may share the machine.
double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The least seconds one call of `work` took, over several tries of many calls each.
template <typename Work>
double LeastSeconds(const Work& work) {
  double least = 1e9;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const double start = ThreadSeconds();
    double seconds = 0;
    int calls = 0;
    do {
      benchmark::DoNotOptimize(work());
      ++calls;
      seconds = ThreadSeconds() - start;
    } while (seconds < kSecondsPerTry);
    least = std::min(least, seconds / calls);
  }
  return least;
}

}  // namespace

double StreamBytesPerSecond(const std::string& instruction_set, size_t bytes) {
  static std::map<std::pair<std::string, size_t>, double> known;
  double& result = known[{instruction_set, bytes}];
  if (result == 0) {
    const int64_t floats = std::max<int64_t>(128, static_cast<int64_t>(bytes / 4 / 128 * 128));
    const std::vector<float> data(floats, 1.0f);
    const cpu::FloorLoops& loops = LoopsOf(instruction_set);
    const double seconds = LeastSeconds([&] { return loops.read_all(data.data(), floats); });
    result = static_cast<double>(floats) * sizeof(float) / seconds;
  }
  return result;
}

double PeakOperationsPerSecond(const std::string& instruction_set) {
  static std::map<std::string, double> known;
  double& result = known[instruction_set];
  if (result == 0) {
    const cpu::FloorLoops& loops = LoopsOf(instruction_set);
    const double seconds = LeastSeconds([&] { return loops.multiply_adds(); });
    result = static_cast<double>(loops.operations_per_call) / seconds;
  }
  return result;
}

}  // namespace tessera::kernels
