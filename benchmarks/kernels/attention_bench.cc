#include "benchmarks/kernels/attention_bench.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/kernels/floors.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"

namespace tessera::kernels {
namespace {

constexpr int kLayers = 30;
constexpr int kHeadDim = 64;
constexpr int kBlockTokens = 16;
constexpr int32_t kKvHeadOf[] = {0, 0, 0, 1, 1, 1, 2, 2, 2};
constexpr int kQueryHeads = 9;
constexpr int kKvHeads = 3;

struct Problem {
  std::string instruction_set;
  DType type;
  int context;  // positions before the first token
  int tokens;
};

double PeakOf(const Problem& problem, int threads) {
  const double dots =
      PeakOperationsPerSecond(problem.instruction_set, Peak::kBFloat16Dots, threads);
  if (problem.type == DType::kBF16 && dots > 0) return dots;
  return PeakOperationsPerSecond(problem.instruction_set, Peak::kFloat32, threads);
}

void BenchAttention(benchmark::State& state, const Problem& problem, int threads) {
  auto device = MakeDevice(
      "cpu",
      {.threads = threads, .instruction_set = problem.instruction_set, .kv_type = problem.type});
  if (!device.ok()) return state.SkipWithError(std::string(device.status().message()).c_str());
  const int end = problem.context + problem.tokens;
  const int blocks = (end + kBlockTokens - 1) / kBlockTokens;
  const int64_t elements = int64_t{blocks} * kKvHeads * kBlockTokens * kHeadDim;
  const size_t bytes = RowBytes(problem.type, elements);  // of a layer's keys
  auto memory = (*device)->Allocate(bytes * 2 * kLayers);
  if (!memory.ok()) return state.SkipWithError("no memory for keys and values");
  // Both types' numbers around 0.01.
  std::fill_n(reinterpret_cast<uint16_t*>(memory->get()), kLayers * bytes, uint16_t{0x3c24});
  std::vector<int32_t> table(blocks);
  std::iota(table.begin(), table.end(), 0);
  const SequenceSpan span = {.num_tokens = problem.tokens,
                             .start_position = problem.context,
                             .block_table = table.data(),
                             .num_blocks = blocks};
  StepView step;
  step.n = problem.tokens;
  step.sequences = &span;
  step.num_sequences = 1;
  if (!(*device)->BeginStep(step).ok()) {
    return state.SkipWithError("the step was refused");
  }
  AttentionShape shape;
  shape.num_q_heads = kQueryHeads;
  shape.num_kv_heads = kKvHeads;
  shape.head_dim = kHeadDim;
  shape.kv_head_of = kKvHeadOf;
  shape.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
  std::vector<float> q(int64_t{problem.tokens} * kQueryHeads * kHeadDim, 0.5f);
  std::vector<float> out(q.size());
  int layer = 0;
  for (auto _ : state) {
    std::byte* keys = memory->get() + bytes * 2 * layer;
    (*device)->Attention(reinterpret_cast<const Activation*>(q.data()), shape,
                         {.keys = keys,
                          .values = keys + bytes,
                          .type = problem.type,
                          .layout = (*device)->CacheLayout(),
                          .num_blocks = blocks,
                          .num_kv_heads = kKvHeads,
                          .block_tokens = kBlockTokens,
                          .head_dim = kHeadDim},
                         problem.tokens, reinterpret_cast<Activation*>(out.data()));
    benchmark::DoNotOptimize(out.data());
    layer = (layer + 1) % kLayers;
  }
  using benchmark::Counter;
  const double attended = 0.5 * problem.tokens * (problem.context + 1.0 + end);
  const auto calls = static_cast<double>(state.iterations());
  const double operations = calls * attended * kQueryHeads * 4 * kHeadDim;
  state.counters["GOP/s"] = Counter(operations / 1e9, Counter::kIsRate);
  state.counters["of_peak"] = Counter(operations / PeakOf(problem, threads), Counter::kIsRate);
  state.counters["GB/s"] = Counter(calls * 2 * static_cast<double>(bytes) / 1e9, Counter::kIsRate);
}

}  // namespace

void RegisterAttention(const int* threads) {
  for (const std::string& set : cpu::AvailableInstructionSets()) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      const auto add = [&](const char* kind, int context, int tokens) {
        const std::string name =
            absl::StrCat(kind, "/", set, "/", std::string(DTypeName(type)), "/", context + tokens);
        const Problem problem = {set, type, context, tokens};
        benchmark::RegisterBenchmark(name.c_str(), [problem, threads](benchmark::State& state) {
          BenchAttention(state, problem, *threads);
        })->UseRealTime();
      };
      add("AttentionPrefill", 0, 512);
      add("AttentionDecode", 3999, 1);
    }
  }
}

}  // namespace tessera::kernels
