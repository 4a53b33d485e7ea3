// MatMul on one core against two floors measured in the same run.
//
//   GB/s, of_stream   weight bytes per second, and its ratio to merely reading as many bytes
//   GFLOP/s, of_peak  2 * rows * cols * n per second, and its ratio to multiply-adds on registers
//
// One token at a time is bound by reading and unpacking weights, many tokens by arithmetic. Weights
// are walked through a pool of copies larger than the caches where a decoder's would be, so that a
// small matrix is not measured from the first-level cache.
//
//   tessera_bench_kernels --benchmark_filter=avx512
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/kernels/floors.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"

namespace tessera::kernels {
namespace {

constexpr size_t kPoolBytes = size_t{64} << 20;  // about what SmolLM2-135M's layers take in Q4_1

struct Problem {
  std::string instruction_set;
  DType dtype;
  int64_t rows;
  int64_t cols;
  int64_t n;
};

// Bytes that are weights of any type: no half or float among them is huge, subnormal or not a
// number.
std::vector<uint8_t> SomeWeights(size_t bytes) {
  std::mt19937 random(1);
  std::vector<uint8_t> weights(bytes);
  for (size_t i = 0; i < bytes; ++i) weights[i] = static_cast<uint8_t>((random() & 0xaf) | 0x10);
  return weights;
}

// A cpu device's activations are floats in host memory.
template <typename T, typename Floats>
T* As(Floats& floats) {
  return reinterpret_cast<T*>(floats.data());
}

void BenchMatMul(benchmark::State& state, const Problem& problem) {
  auto device = MakeDevice("cpu", {.instruction_set = problem.instruction_set});
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  const size_t bytes = RowBytes(problem.dtype, problem.cols) * problem.rows;
  const size_t copies = std::max<size_t>(1, kPoolBytes / bytes);
  std::vector<uint8_t> weights = SomeWeights(bytes * copies);
  const std::vector<float> x(problem.n * problem.cols, 0.5f);
  std::vector<float> out(problem.n * problem.rows);
  size_t copy = 0;
  for (auto _ : state) {
    const WeightMatrix w{reinterpret_cast<std::byte*>(&weights[copy * bytes]), problem.dtype,
                         problem.rows, problem.cols};
    (*device)->MatMul({{w, nullptr, As<Activation>(out)}}, As<const Activation>(x), problem.n);
    benchmark::DoNotOptimize(out.data());
    copy = (copy + 1) % copies;
  }
  const double calls = static_cast<double>(state.iterations());
  const double read = static_cast<double>(bytes) * calls;
  const double operations =
      2.0 * static_cast<double>(problem.rows * problem.cols * problem.n) * calls;
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(read / 1e9, Counter::kIsRate);
  state.counters["of_stream"] = Counter(
      read / StreamBytesPerSecond(problem.instruction_set, bytes * copies), Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(operations / 1e9, Counter::kIsRate);
  state.counters["of_peak"] =
      Counter(operations / PeakOperationsPerSecond(problem.instruction_set), Counter::kIsRate);
}

// One token through all matrices of SmolLM2-135M-Instruct.Q4_1, and only those: an upper bound of
// tokens per second on one core.
void BenchSmolLm2Token(benchmark::State& state, const std::string& instruction_set) {
  struct Matrix {
    DType dtype;
    int64_t rows;
    int64_t cols;
  };
  constexpr DType kLayer = DType::kQ4_1;
  std::vector<Matrix> matrices;
  for (int layer = 0; layer < 30; ++layer) {
    for (int64_t rows : {576, 192, 192, 576, 1536, 1536}) matrices.push_back({kLayer, rows, 576});
    matrices.push_back({kLayer, 576, 1536});
  }
  matrices.push_back({DType::kQ8_0, 49152, 576});

  auto device = MakeDevice("cpu", {.instruction_set = instruction_set});
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  size_t bytes = 0;
  for (const Matrix& m : matrices) bytes += RowBytes(m.dtype, m.cols) * m.rows;
  std::vector<uint8_t> weights = SomeWeights(bytes);
  const std::vector<float> x(1536, 0.5f);
  std::vector<float> out(49152);
  for (auto _ : state) {
    size_t offset = 0;
    for (const Matrix& m : matrices) {
      const WeightMatrix w{reinterpret_cast<std::byte*>(&weights[offset]), m.dtype, m.rows, m.cols};
      (*device)->MatMul({{w, nullptr, As<Activation>(out)}}, As<const Activation>(x), 1);
      benchmark::DoNotOptimize(out.data());
      offset += RowBytes(m.dtype, m.cols) * m.rows;
    }
  }
  const double tokens = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["tokens/s"] = Counter(tokens, Counter::kIsRate);
  state.counters["GB/s"] = Counter(tokens * static_cast<double>(bytes) / 1e9, Counter::kIsRate);
  state.counters["of_stream"] =
      Counter(tokens * static_cast<double>(bytes) / StreamBytesPerSecond(instruction_set, bytes),
              Counter::kIsRate);
}

void RegisterMatMul(const Problem& problem) {
  const std::string name =
      absl::StrCat("MatMul/", problem.instruction_set, "/", std::string(DTypeName(problem.dtype)),
                   "/", problem.rows, "x", problem.cols, "/n:", problem.n);
  benchmark::RegisterBenchmark(name.c_str(),
                               [problem](benchmark::State& state) { BenchMatMul(state, problem); });
}

void RegisterAll() {
  for (const std::string& set : cpu::AvailableInstructionSets()) {
    benchmark::RegisterBenchmark(("SmolLM2Token/" + set).c_str(),
                                 [set](benchmark::State& state) { BenchSmolLm2Token(state, set); });
    for (int64_t n : {1, 64}) {
      for (int type = 0; type < kNumDTypes; ++type) {
        RegisterMatMul({set, static_cast<DType>(type), 1536, 576, n});
      }
      RegisterMatMul({set, DType::kQ4_1, 576, 1536, n});
      RegisterMatMul({set, DType::kQ4_1, 192, 576, n});
      RegisterMatMul({set, DType::kQ4_K32, 4096, 4096, n});
    }
    for (int64_t n : {2, 4, 8, 16, 512}) RegisterMatMul({set, DType::kQ4_1, 1536, 576, n});
    RegisterMatMul({set, DType::kQ8_0, 49152, 576, 1});
  }
}

}  // namespace
}  // namespace tessera::kernels

int main(int argc, char** argv) {
  tessera::kernels::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
