// What one GPU does with Llamas of dummy weights, each beside the card's own measured limits. See
// benchmarks/gpu.sh. Prints a table; with --json FILE also a list of {"name", "value", "unit",
// "share"}, written anew after each model. A model that cannot be measured is said and the others go
// on; the exit code is 1 then.
//
//   gpu_bench [--quick] [--json FILE]
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/gpu/card_limits.h"
#include "benchmarks/gpu/dummy_llama.h"
#include "kernels/device.h"

namespace tessera::gpu_bench {
namespace {

using kernels::DType;

struct Row {
  std::string name;
  double value = 0;
  std::string unit;
  double share = -1;  // of the card's limit; below 0: none applies
};

class Report {
 public:
  void Add(Row row) {
    std::printf("%-58s %12.1f %-10s", row.name.c_str(), row.value, row.unit.c_str());
    if (row.share >= 0) std::printf(" %6.1f%% of the card", 100 * row.share);
    std::printf("\n");
    std::fflush(stdout);
    rows_.push_back(std::move(row));
  }
  // Whether `doing` went well; says what did not.
  bool Well(const absl::Status& status, const std::string& doing) {
    if (status.ok()) return true;
    failed_ = true;
    std::fprintf(stderr, "gpu_bench: %s: %s\n", doing.c_str(),
                 std::string(status.message()).c_str());
    return false;
  }
  bool failed() const { return failed_; }
  void Write(const std::string& path) const {
    std::ofstream out(path);
    out << "[";
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      out << (i > 0 ? ",\n " : "\n ") << "{\"name\": \"" << row.name << "\", \"value\": " << row.value
          << ", \"unit\": \"" << row.unit << "\"";
      if (row.share >= 0) out << ", \"share\": " << row.share;
      out << "}";
    }
    out << "\n]\n";
  }

 private:
  std::vector<Row> rows_;
  bool failed_ = false;
};

// Seconds per call of `work` when `count` of them are waited for together; none where it failed.
template <typename Work>
std::optional<double> SecondsPerCall(Report& report, kernels::Device& device, int count,
                                     const Work& work) {
  if (!report.Well(device.Sync(), "waiting")) return std::nullopt;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) {
    if (!report.Well(work(), "a step")) return std::nullopt;
  }
  if (!report.Well(device.Sync(), "waiting")) return std::nullopt;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return took.count() / count;
}

// Decode of `batch` sequences at `context`: tokens/s, the share of the bandwidth that reading weights
// and caches once takes, and how long the GPU waits between steps.
void Decode(Report& report, kernels::Device& device, DummyLlama& llama, const std::string& name,
            int64_t batch, int64_t context, const CardLimits& card) {
  const auto step = [&] { return llama.Step(batch, context, 1); };
  const auto step_and_wait = [&] {
    absl::Status status = step();
    return status.ok() ? device.Sync() : status;
  };
  SecondsPerCall(report, device, 3, step_and_wait);  // recorded then
  const auto wall = SecondsPerCall(report, device, 20, step_and_wait);
  const auto busy = SecondsPerCall(report, device, 20, step);
  if (!wall || !busy) return;
  const double bytes = static_cast<double>(llama.weight_bytes()) +
                       static_cast<double>(batch * context) * llama.KvBytesPerToken();
  report.Add({name + " decode, batch " + std::to_string(batch) + ", context " +
                  std::to_string(context),
              batch / *wall, "tokens/s", bytes / *wall / card.copy_bytes_per_second});
  report.Add({name + " idle between those steps", 100 * (1 - *busy / *wall), "%"});
}

void Prefill(Report& report, kernels::Device& device, DummyLlama& llama, const LlamaShape& shape,
             const std::string& name, int64_t tokens, const CardLimits& card) {
  const auto step = [&] { return llama.Step(1, 0, tokens); };
  SecondsPerCall(report, device, 2, step);
  const auto seconds = SecondsPerCall(report, device, 5, step);
  if (!seconds) return;
  const double n = static_cast<double>(tokens);
  const double flops = 2 * n * shape.LayerParameters() + 2.0 * shape.HeadParameters() +
                       2 * n * n * shape.q_heads * shape.head_dim * shape.layers;
  report.Add({name + " prefill of " + std::to_string(tokens), n / *seconds, "tokens/s",
              flops / *seconds / card.matrix_flops});
}

void RunModel(Report& report, const LlamaShape& whole, int ranks, DType dtype, bool quick,
              const CardLimits& card) {
  auto device = kernels::MakeDevice("cuda", {});
  if (!report.Well(device.status(), "opening the device")) return;
  const LlamaShape shape = whole.SliceOf(ranks);
  std::string name = shape.name + " " + std::string(kernels::DTypeName(dtype));
  if (ranks > 1) name += ", 1 of " + std::to_string(ranks) + " ranks";
  auto llama = DummyLlama::Create(device->get(), shape, dtype,
                                  {.tokens_per_step = 8192, .kv_tokens = 128 * 1100});
  if (!report.Well(llama.status(), name)) return;
  DummyLlama& model = **llama;
  if (ranks == 1) {
    report.Add({name + " load", model.load_bytes_per_second() / 1e9, "GB/s",
                model.load_bytes_per_second() / card.upload_bytes_per_second});
  }
  const std::vector<int64_t> all = {1, 8, 32, 128}, few = {1, 32};
  for (const int64_t batch : quick || ranks > 1 ? few : all) {
    Decode(report, **device, model, name, batch, 512, card);
  }
  Prefill(report, **device, model, shape, name, 2048, card);
  if (!quick) Prefill(report, **device, model, shape, name, 8192, card);
}

// One layer's attention of 32 sequences at 8k, by the bytes of keys and values it must read.
void RunAttention(Report& report, const CardLimits& card) {
  auto device = kernels::MakeDevice("cuda", {});
  if (!report.Well(device.status(), "opening the device")) return;
  LlamaShape shape = LlamaShape::Llama8B();
  shape.layers = 1;
  shape.vocab = 1024;
  const int64_t batch = 32, context = 8192;
  auto llama = DummyLlama::Create(device->get(), shape, DType::kBF16,
                                  {.tokens_per_step = 64, .kv_tokens = batch * (context + 32)});
  if (!report.Well(llama.status(), "attention")) return;
  const auto step = [&] { return (*llama)->AttentionOnly(batch, context); };
  SecondsPerCall(report, **device, 3, step);
  const auto seconds = SecondsPerCall(report, **device, 20, step);
  if (!seconds) return;
  const double bytes = static_cast<double>(batch * context) * (*llama)->KvBytesPerToken();
  report.Add({"decode attention, 8B heads, batch 32, context 8192", bytes / *seconds / 1e9, "GB/s",
              bytes / *seconds / card.copy_bytes_per_second});
}

int Run(bool quick, const std::string& json) {
  Report report;
  auto card = MeasureCard(0);
  if (!report.Well(card.status(), "measuring the card")) return 1;
  report.Add({"card: copy, read and written", card->copy_bytes_per_second / 1e9, "GB/s"});
  report.Add({"card: bf16 matrix product", card->matrix_flops / 1e12, "TFLOP/s"});
  report.Add({"card: upload from pinned memory", card->upload_bytes_per_second / 1e9, "GB/s"});
  RunAttention(report, *card);
  struct Case {
    LlamaShape shape;
    int ranks;
    DType dtype;
  };
  std::vector<Case> cases;
  for (const DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kQ8_0, DType::kQ4_K32}) {
    cases.push_back({LlamaShape::Llama1B(), 1, dtype});
    cases.push_back({LlamaShape::Llama8B(), 1, dtype});
  }
  for (const int ranks : {2, 4, 8}) cases.push_back({LlamaShape::Llama8B(), ranks, DType::kBF16});
  for (const Case& one : cases) {
    RunModel(report, one.shape, one.ranks, one.dtype, quick, *card);
    if (!json.empty()) report.Write(json);
  }
  return report.failed() ? 1 : 0;
}

}  // namespace
}  // namespace tessera::gpu_bench

int main(int argc, char** argv) {
  bool quick = false;
  std::string json;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
      json = argv[++i];
    } else {
      std::fprintf(stderr, "gpu_bench: unknown argument '%s'; expected [--quick] [--json FILE]\n",
                   argv[i]);
      return 2;
    }
  }
  return tessera::gpu_bench::Run(quick, json);
}
