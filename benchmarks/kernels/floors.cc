#include "benchmarks/kernels/floors.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "benchmarks/kernels/floor_loops.h"
#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/thread_pool.h"

namespace tessera::kernels {
namespace {

constexpr double kSecondsPerTry = 0.03;
constexpr int kTries = 7;

const cpu::FloorLoops& LoopsOf(const std::string& instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == "avx2") return cpu::avx2::kFloorLoops;
  if (instruction_set == "avx512") return cpu::avx512::kFloorLoops;
  if (instruction_set == "avx512vnni") return cpu::avx512vnni::kFloorLoops;
  if (instruction_set == "avx512bf16") return cpu::avx512bf16::kFloorLoops;
  if (instruction_set == "amx") return cpu::amx::kFloorLoops;
#endif
  return cpu::scalar::kFloorLoops;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The least seconds that `work` took once on every thread, over several tries of many times each.
template <typename Work>
double LeastSeconds(int threads, const Work& work) {
  cpu::ThreadPool pool(threads);
  double least = 1e9;
  int times = 1;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const double start = Seconds();
    pool.Run(threads, [&](int part, int) {
      for (int i = 0; i < times; ++i) work(part);
    });
    const double seconds = Seconds() - start;
    least = std::min(least, seconds / times);
    if (seconds < kSecondsPerTry) times = static_cast<int>(times * kSecondsPerTry / seconds) + 1;
  }
  return least;
}

cpu::PeakLoop LoopOf(const cpu::FloorLoops& loops, Peak peak) {
  switch (peak) {
    case Peak::kFloat32:
      return loops.float32;
    case Peak::kInt8Dots:
      return loops.int8_dots;
    case Peak::kBFloat16Dots:
      return loops.bfloat16_dots;
    case Peak::kInt8Tiles:
      return loops.int8_tiles;
    case Peak::kBFloat16Tiles:
      return loops.bfloat16_tiles;
  }
  return {};
}

}  // namespace

double ReadBytesPerSecond(const std::string& instruction_set, int threads, size_t bytes) {
  static std::map<std::tuple<std::string, int, size_t>, double> known;
  double& result = known[{instruction_set, threads, bytes}];
  if (result == 0) {
    const auto floats = static_cast<int64_t>(bytes / threads / 512 * 128);
    const size_t used = static_cast<size_t>(floats) * threads * sizeof(float);
    std::byte* data = cpu::AllocateHuge(used);
    if (data == nullptr) return 0;
    std::memset(data, 0, used);
    const cpu::FloorLoops& loops = LoopsOf(instruction_set);
    const double seconds = LeastSeconds(threads, [&](int part) {
      benchmark::DoNotOptimize(
          loops.read_all(reinterpret_cast<const float*>(data) + part * floats, floats));
    });
    cpu::FreeHuge(data);
    result = static_cast<double>(used) / seconds;
  }
  return result;
}

double PeakOperationsPerSecond(const std::string& instruction_set, Peak peak, int threads) {
  static std::map<std::tuple<std::string, Peak, int>, double> known;
  const cpu::PeakLoop loop = LoopOf(LoopsOf(instruction_set), peak);
  if (loop.run == nullptr) return 0;
  double& result = known[{instruction_set, peak, threads}];
  if (result == 0) {
    const double seconds = LeastSeconds(threads, [&](int) { loop.run(); });
    result = static_cast<double>(loop.operations) * threads / seconds;
  }
  return result;
}

}  // namespace tessera::kernels
