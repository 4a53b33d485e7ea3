// The tiny models and others on a GPU, by the worker's own engine in one process: the same prompts
// on one rank of the CPU, and on 1, 2 and 4 ranks that share the GPU and exchange activations
// through the host (threads in the place of MPI's processes). See tests/gpu.sh.
//
//   gpu_models [--device cuda] [--tokens 32] [--threads N] [--fp8] MODEL.gguf...
//
// A line for every model and layout; exit code 1 when the tokens or logits of one are further from
// the CPU's than bfloat16 explains. --fp8: weights as 8-bit floats, which CPUs have not: the
// layouts are compared with one rank of the GPU.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/plan/shard_planner.h"
#include "proto/base/status_macros.h"
#include "tests/worker/engine/generation_script.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/layout_answers.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

// What rounding activations to bfloat16 moves single logits of these models by, and no mistake is
// as small as: tests/worker/engine/gpu_engine_test.cc.
constexpr double kTolerance = 0.1;

struct Flags {
  std::string device = "cuda";
  int tokens = 32;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  bool fp8 = false;
  std::vector<std::string> models;
};

struct ModelLayout {
  int tp = 1;
  int pp = 1;
};

// The answers of a group of tp x pp ranks, all of them on that device.
absl::StatusOr<std::vector<GenerationResult>> Run(const ModelFile& file, const std::string& device,
                                                  const ModelLayout& ranks, const Flags& flags) {
  coordinator::Layout layout;
  layout.tensor_parallel = ranks.tp;
  layout.pipeline_parallel = ranks.pp;
  TESSERA_ASSIGN_OR_RETURN(const v1::ShardPlan plan,
                           coordinator::PlanShards(file.description(), layout));
  const int32_t vocab = file.description().architecture().vocab_size();
  GenerationScript script(plan, EightPrompts(vocab, flags.tokens, /*return_logits=*/true),
                          {.steps_in_flight = ranks.pp});
  InProcessGroupOptions group;
  group.engine.device = device;
  group.engine.comm = LinkPreference::kMpi;
  group.engine.device_options.threads = flags.threads;
  group.engine.device_options.deterministic = true;
  TESSERA_RETURN_IF_ERROR(RunInProcessGroup(file, plan, &script, group));
  return script.results();
}

// Whether every layout's answers are those of one rank on the CPU.
absl::StatusOr<bool> CheckModel(const std::string& path, const Flags& flags) {
  TESSERA_ASSIGN_OR_RETURN(
      const auto file,
      OpenModel(path, LoadFormat::kAuto, flags.fp8 ? Quantization::kFp8 : Quantization::kAsStored));
  const std::string judge = flags.fp8 ? flags.device : "cpu";
  TESSERA_ASSIGN_OR_RETURN(const auto expected, Run(*file, judge, {}, flags));
  const auto vocab = static_cast<size_t>(file->description().architecture().vocab_size());
  const auto requests =
      EightPrompts(static_cast<int32_t>(vocab), flags.tokens, /*return_logits=*/true);
  bool good = true;
  for (const ModelLayout& layout : {ModelLayout{1, 1}, {2, 1}, {4, 1}, {1, 2}, {2, 2}}) {
    const auto began = std::chrono::steady_clock::now();
    TESSERA_ASSIGN_OR_RETURN(const auto actual, Run(*file, flags.device, layout, flags));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const RunDifference found = CompareRuns(requests, vocab, actual, expected, kTolerance);
    std::cout << path << (flags.fp8 ? " as fp8" : "") << " on " << flags.device << " over "
              << layout.tp << "x" << layout.pp << ": " << found.Text() << " [" << took.count()
              << " s]" << (found.Within(kTolerance) ? "" : "  FAILED") << std::endl;
    good = good && found.Within(kTolerance);
  }
  return good;
}

// False: a flag that there is not, or without its value.
bool ParseFlags(const std::vector<std::string>& arguments, Flags& flags) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--fp8") {
      flags.fp8 = true;
    } else if (argument[0] != '-') {
      flags.models.push_back(argument);
    } else if (i + 1 == arguments.size()) {
      return false;
    } else if (argument == "--device") {
      flags.device = arguments[++i];
    } else if (argument == "--tokens") {
      flags.tokens = std::atoi(arguments[++i].c_str());
    } else if (argument == "--threads") {
      flags.threads = std::atoi(arguments[++i].c_str());
    } else {
      return false;
    }
  }
  return flags.tokens > 0 && flags.threads > 0 && !flags.models.empty();
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  using namespace tessera::worker;  // NOLINT: of one program
  Flags flags;
  if (!ParseFlags({argv + 1, argv + argc}, flags)) {
    std::cerr << "gpu_models [--device D] [--tokens N] [--threads N] [--fp8] MODEL.gguf...\n";
    return 2;
  }
  int failed = 0;
  for (const std::string& model : flags.models) {
    const absl::StatusOr<bool> good = CheckModel(model, flags);
    if (!good.ok()) std::cerr << "gpu_models: " << model << ": " << good.status() << "\n";
    failed += !good.ok() || !*good;
  }
  std::cout << flags.models.size() - failed << " passed, " << failed << " failed\n";
  return failed == 0 ? 0 : 1;
}
