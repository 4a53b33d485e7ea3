#include "tests/worker/engine/test_models.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tests/worker/engine/in_process_group.h"

namespace tessera::worker {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value, const std::string& doing) {
  if (!value.ok()) {
    std::cerr << doing << ": " << value.status() << "\n";
    std::abort();
  }
  return *std::move(value);
}

std::string TinyFolder(const std::string& name) {
  return std::string(TESSERA_SOURCE_DIR) + "/tests/golden/tiny_models/" + name;
}

}  // namespace

std::unique_ptr<ModelFile> OpenTinyModel(const std::string& name) {
  return ValueOrDie(OpenModel(TinyFolder(name), LoadFormat::kAuto), "opening " + name);
}

std::unique_ptr<ModelFile> OpenTinyGguf(const std::string& name) {
  const std::string path =
      std::string(TESSERA_SOURCE_DIR) + "/tests/golden/tiny_gguf/" + name + ".gguf";
  return ValueOrDie(OpenModel(path, LoadFormat::kAuto), "opening " + path);
}

TinyGolden LoadTinyGolden(const std::string& name) {
  std::ifstream prompts_file(TinyFolder(name) + "/prompts.json");
  const nlohmann::json json = nlohmann::json::parse(prompts_file);
  TinyGolden golden;
  golden.prompts = json.at("prompts").get<std::vector<std::vector<int32_t>>>();
  const size_t vocab_size = json.at("vocab_size").get<size_t>();
  std::ifstream logits_file(TinyFolder(name) + "/logits.bin", std::ios::binary);
  for (const std::vector<int32_t>& prompt : golden.prompts) {
    std::vector<float>& logits = golden.logits.emplace_back(prompt.size() * vocab_size);
    logits_file.read(reinterpret_cast<char*>(logits.data()), logits.size() * sizeof(float));
  }
  if (!logits_file) {
    std::cerr << "the golden logits of " << name << " are short\n";
    std::abort();
  }
  return golden;
}

std::optional<std::string> DefaultModelPath() {
  const char* named = std::getenv("TESSERA_TEST_MODEL");
  const char* home = std::getenv("HOME");
  const std::string path = named != nullptr
                               ? named
                               : std::string(home != nullptr ? home : "") +
                                     "/.cache/tessera/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (access(path.c_str(), R_OK) == 0) return path;
  std::cerr << "\n*** SKIPPED: the default model is missing at " << path
            << "\n*** (set TESSERA_TEST_MODEL, or run deploy/quickstart.sh once)\n\n";
  return std::nullopt;
}

v1::ShardPlan PlanOf(const ModelFile& file, const coordinator::Layout& layout) {
  return ValueOrDie(coordinator::PlanShards(file.description(), layout), "planning");
}

v1::ShardPlan PlanOf(const ModelFile& file, int tp, int pp) {
  coordinator::Layout layout;
  layout.tensor_parallel = tp;
  layout.pipeline_parallel = pp;
  return PlanOf(file, layout);
}

std::vector<GenerationResult> Generate(const ModelFile& file, const v1::ShardPlan& plan,
                                       const std::vector<GenerationRequest>& requests,
                                       const GenerationOptions& options) {
  GenerationScript script(plan, requests, options);
  const absl::Status status = RunInProcessGroup(file, plan, &script, {});
  if (!status.ok()) {
    std::cerr << "the group failed: " << status << "\n";
    std::abort();
  }
  return script.results();
}

double RelativeDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) {
      return std::numeric_limits<double>::infinity();
    }
    largest = std::max(largest, std::abs(double{b[i]}));
    difference = std::max(difference, std::abs(double{a[i]} - b[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

}  // namespace tessera::worker
