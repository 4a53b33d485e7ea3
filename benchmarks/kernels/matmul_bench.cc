// Products of a cpu device (and its attention: attention_bench.h) against what the machine can do at
// best, measured first in the same run.
//
//   GB/s, of_read      packed weight bytes per second, and their ratio to merely reading as many
//                      bytes from where the caches keep them
//   GOP/s, of_peak     2 * rows * cols * n per second, and their ratio to the dot products of vectors
//                      that suit the type: int8 (VNNI) for quantized weights, bfloat16 for bfloat16,
//                      float32 otherwise or where there are none
//
// One token at a time waits for memory, many tokens for arithmetic. Weights are walked through a
// pool of matrices larger than the caches, of --pool_mib (decode) or as many as a model has
// (prefill), so that none is measured from a cache where a model's would not be.
//
//   tessera_bench_kernels --benchmark_filter=Decode/amx --threads=2 --pool_mib=1024
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "benchmarks/kernels/attention_bench.h"
#include "benchmarks/kernels/floors.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"

namespace tessera::kernels {
namespace {

struct Settings {
  int threads = 2;
  int pool_mib = 768;
};
Settings settings;

struct Shape {
  int64_t rows;
  int64_t cols;
};

struct Problem {
  std::string instruction_set;
  DType dtype;
  Shape shape;
  int64_t n;
  size_t pool_bytes;  // of matrices that are multiplied in turn, at least one
};

// A pool of matrices in device memory whose bytes are weights of any type: no half or float among
// them is huge, subnormal or not a number.
class Pool {
 public:
  Pool(Device& device, DType dtype, Shape shape, size_t bytes)
      : w_{nullptr, dtype, shape.rows, shape.cols},
        matrix_bytes_(device.WeightBytes(dtype, shape.rows, shape.cols)),
        count_(std::max<size_t>(1, bytes / matrix_bytes_)),
        buffer_(device.Allocate(matrix_bytes_ * count_)) {
    if (!buffer_.ok()) return;
    uint64_t state = 1;
    for (size_t i = 0; i + 8 <= this->bytes(); i += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const uint64_t eight = ((state ^ state >> 32) & 0xafafafafafafafafu) | 0x1010101010101010u;
      std::memcpy(buffer_->get() + i, &eight, sizeof(eight));
    }
  }

  bool ok() const { return buffer_.ok(); }
  size_t bytes() const { return matrix_bytes_ * count_; }
  size_t matrix_bytes() const { return matrix_bytes_; }

  WeightMatrix Next() {
    WeightMatrix w = w_;
    w.data = buffer_->get() + next_ * matrix_bytes_;
    next_ = (next_ + 1) % count_;
    return w;
  }

 private:
  WeightMatrix w_;
  size_t matrix_bytes_;
  size_t count_;
  absl::StatusOr<Device::Buffer> buffer_;
  size_t next_ = 0;
};

// A cpu device's activations are floats in host memory.
template <typename T, typename Floats>
T* As(Floats& floats) {
  return reinterpret_cast<T*>(floats.data());
}

std::vector<float> SomeInputs(int64_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& value : x) value = normal(random);
  return x;
}

Peak PeakOf(const std::string& set, DType dtype) {
  if (BlockElements(dtype) > 1 && PeakOperationsPerSecond(set, Peak::kInt8Dots, 1) > 0) {
    return Peak::kInt8Dots;
  }
  if (dtype == DType::kBF16 && PeakOperationsPerSecond(set, Peak::kBFloat16Dots, 1) > 0) {
    return Peak::kBFloat16Dots;
  }
  return Peak::kFloat32;
}

void Report(benchmark::State& state, const std::string& set, double bytes_per_call,
            size_t pool_bytes) {
  using benchmark::Counter;
  const double read = bytes_per_call * static_cast<double>(state.iterations());
  const double floor = ReadBytesPerSecond(set, settings.threads, pool_bytes);
  state.counters["GB/s"] = Counter(read / 1e9, Counter::kIsRate);
  state.counters["of_read"] = Counter(read / floor, Counter::kIsRate);
}

void BenchMatMul(benchmark::State& state, const Problem& problem) {
  auto device = MakeDevice(
      "cpu", {.threads = settings.threads, .instruction_set = problem.instruction_set});
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  Pool pool(**device, problem.dtype, problem.shape, problem.pool_bytes);
  if (!pool.ok()) return state.SkipWithError("no memory for the pool");
  const std::vector<float> x = SomeInputs(problem.n * problem.shape.cols);
  std::vector<float> out(problem.n * problem.shape.rows);
  for (auto _ : state) {
    (*device)->MatMul({{pool.Next(), nullptr, As<Activation>(out)}}, As<const Activation>(x),
                      problem.n);
    benchmark::DoNotOptimize(out.data());
  }
  Report(state, problem.instruction_set, static_cast<double>(pool.matrix_bytes()), pool.bytes());
  const double operations = 2.0 *
                            static_cast<double>(problem.shape.rows * problem.shape.cols) *
                            static_cast<double>(problem.n * state.iterations());
  const Peak peak = PeakOf(problem.instruction_set, problem.dtype);
  using benchmark::Counter;
  state.counters["GOP/s"] = Counter(operations / 1e9, Counter::kIsRate);
  state.counters["of_peak"] = Counter(
      operations / PeakOperationsPerSecond(problem.instruction_set, peak, settings.threads),
      Counter::kIsRate);
}

// n tokens through all matrices of SmolLM2-135M-Instruct.Q4_1, and only those: an upper bound of
// tokens per second.
void BenchSmolLm2(benchmark::State& state, const std::string& set, int64_t n) {
  auto device = MakeDevice("cpu", {.threads = settings.threads, .instruction_set = set});
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  constexpr int kLayers = 30;
  const auto pool = [&](DType dtype, Shape shape) {
    const size_t bytes = (*device)->WeightBytes(dtype, shape.rows, shape.cols);
    return std::make_unique<Pool>(**device, dtype, shape,
                                  dtype == DType::kQ8_0 ? bytes : bytes * kLayers);
  };
  const auto wq = pool(DType::kQ4_1, {576, 576}), wk = pool(DType::kQ4_1, {192, 576}),
             wv = pool(DType::kQ4_1, {192, 576}), wo = pool(DType::kQ4_1, {576, 576}),
             gate = pool(DType::kQ4_1, {1536, 576}), up = pool(DType::kQ4_1, {1536, 576}),
             down = pool(DType::kQ4_1, {576, 1536}), head = pool(DType::kQ8_0, {49152, 576});
  const std::vector<float> x = SomeInputs(n * 1536);
  std::vector<float> a(n * 49152), b(n * 1536), c(n * 1536);
  const auto* in = As<const Activation>(x);
  for (auto _ : state) {
    for (int layer = 0; layer < kLayers; ++layer) {
      (*device)->MatMul({{wq->Next(), nullptr, As<Activation>(a)},
                         {wk->Next(), nullptr, As<Activation>(b)},
                         {wv->Next(), nullptr, As<Activation>(c)}},
                        in, n);
      (*device)->MatMul({{wo->Next(), nullptr, As<Activation>(a)}}, in, n);
      (*device)->MatMul({{gate->Next(), nullptr, As<Activation>(b)},
                         {up->Next(), nullptr, As<Activation>(c)}},
                        in, n);
      (*device)->MatMul({{down->Next(), nullptr, As<Activation>(a)}}, in, n);
    }
    (*device)->Logits(head->Next(), in, n, a.data());
    benchmark::DoNotOptimize(a.data());
  }
  size_t bytes = 0;
  for (const Pool* p : {wq.get(), wk.get(), wv.get(), wo.get(), gate.get(), up.get(), down.get(),
                        head.get()}) {
    bytes += p->bytes();
  }
  state.counters["tokens/s"] = benchmark::Counter(
      static_cast<double>(n * state.iterations()), benchmark::Counter::kIsRate);
  Report(state, set, static_cast<double>(bytes), bytes);
}

void RegisterMatMul(const std::string& kind, const Problem& problem) {
  const std::string name =
      absl::StrCat(kind, "/", problem.instruction_set, "/", std::string(DTypeName(problem.dtype)),
                   "/", problem.shape.rows, "x", problem.shape.cols, "/n:", problem.n);
  benchmark::RegisterBenchmark(name.c_str(),
                               [problem](benchmark::State& state) { BenchMatMul(state, problem); })
      ->UseRealTime();
}

void RegisterAll() {
  RegisterAttention(&settings.threads);
  const size_t large = static_cast<size_t>(settings.pool_mib) << 20;
  constexpr size_t kModel = size_t{96} << 20;  // about SmolLM2-135M in Q4_1
  for (const std::string& set : cpu::AvailableInstructionSets()) {
    for (int64_t n : {1, 2, 4, 8, 16}) {
      benchmark::RegisterBenchmark(
          absl::StrCat("SmolLM2/", set, "/n:", n).c_str(),
          [set, n](benchmark::State& state) { BenchSmolLm2(state, set, n); })
          ->UseRealTime();
    }
    for (int type = 0; type < kNumDTypes; ++type) {
      const auto dtype = static_cast<DType>(type);
      if (dtype == DType::kF8E4M3) continue;  // GPUs' alone
      for (Shape shape : {Shape{2048, 2048}, {5632, 2048}, {2048, 5632}}) {
        RegisterMatMul("Decode", {set, dtype, shape, 1, large});
        RegisterMatMul("Prefill", {set, dtype, shape, 512, kModel});
      }
      for (Shape shape : {Shape{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}}) {
        RegisterMatMul("Decode", {set, dtype, shape, 1, kModel});
        RegisterMatMul("Prefill", {set, dtype, shape, 512, kModel});
      }
    }
  }
}

void PrintFloors() {
  const std::string set = cpu::AvailableInstructionSets().back();
  std::printf("# floors, %s: 1 and %d threads\n", set.c_str(), settings.threads);
  const size_t large = static_cast<size_t>(settings.pool_mib) << 20;
  std::printf("# read %d MiB of huge pages: %.1f and %.1f GB/s\n", settings.pool_mib,
              ReadBytesPerSecond(set, 1, large) / 1e9,
              ReadBytesPerSecond(set, settings.threads, large) / 1e9);
  const struct {
    const char* name;
    Peak peak;
  } peaks[] = {{"float32", Peak::kFloat32},
               {"int8 dots", Peak::kInt8Dots},
               {"bfloat16 dots", Peak::kBFloat16Dots},
               {"int8 tiles", Peak::kInt8Tiles},
               {"bfloat16 tiles", Peak::kBFloat16Tiles}};
  for (const auto& [name, peak] : peaks) {
    std::printf("# %s: %.0f and %.0f GOP/s\n", name, PeakOperationsPerSecond(set, peak, 1) / 1e9,
                PeakOperationsPerSecond(set, peak, settings.threads) / 1e9);
  }
  std::fflush(stdout);
}

// Takes --threads=N and --pool_mib=N out of the arguments.
bool TakeSettings(int* argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    absl::string_view arg = argv[i];
    int* value = absl::ConsumePrefix(&arg, "--threads=")    ? &settings.threads
                 : absl::ConsumePrefix(&arg, "--pool_mib=") ? &settings.pool_mib
                                                            : nullptr;
    if (value == nullptr) {
      argv[kept++] = argv[i];
    } else if (!absl::SimpleAtoi(arg, value) || *value < 1) {
      std::fprintf(stderr, "%s: expected a number of at least 1\n", argv[i]);
      return false;
    }
  }
  *argc = kept;
  return true;
}

}  // namespace
}  // namespace tessera::kernels

int main(int argc, char** argv) {
  if (!tessera::kernels::TakeSettings(&argc, argv)) return 1;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  tessera::kernels::PrintFloors();
  tessera::kernels::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
