// Runs a fixed job over the real MPI communicator and writes down what came out, so that layouts
// can be compared from outside:
//
//   mpirun -n 4 tessera_layout_probe --model tests/golden/tiny_models/llama --tp 2 --pp 2 --out a
//   mpirun -n 1 tessera_layout_probe --model tests/golden/tiny_models/llama --out b
//   tessera_layout_probe --compare a b
//   mpirun -n 4 tessera_layout_probe --model M --tp 2 --pp 2 --measure
//   mpirun -n 1 tessera_layout_probe --model M --threads 2 --measure --batch 1,2,4,8,16,32
//
// Eight prompts × 64 greedy tokens. FILE receives {"tokens": [[...], ...], "vocab": N}; FILE.logits
// the logits of every token fed, float32, prompt after prompt. --compare exits 1 when the logits
// differ by more than the tolerance (1e-4) of the largest, or the tokens where the logits are further
// apart than that: from there on two answers go different ways and are not compared. --measure prints tokens/s instead: of one sequence with a
// prompt of 512 tokens or, with --batch, of that many sequences that decode together.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

struct ProbeFlags {
  std::string model;
  int tp = 1;
  int pp = 1;
  int tokens = 64;
  int threads = 1;
  std::string out;
  std::vector<std::string> compare;
  double tolerance = 1e-4;
  std::string device = "cpu";
  std::string comm = "auto";
  bool measure = false;
  std::vector<int> batches;
  bool fp8 = false;
};

void WriteResults(const std::string& path, int32_t vocab,
                  const std::vector<GenerationResult>& results) {
  nlohmann::json json;
  json["vocab"] = vocab;
  std::ofstream logits(path + ".logits", std::ios::binary);
  for (const GenerationResult& result : results) {
    json["tokens"].push_back(result.tokens);
    logits.write(reinterpret_cast<const char*>(result.logits.data()),
                 result.logits.size() * sizeof(float));
  }
  std::ofstream(path) << json.dump() << "\n";
}

// What WriteResults wrote of the prompts; empty where a file is short.
std::vector<GenerationResult> ReadResults(const std::string& path,
                                          const std::vector<std::vector<int>>& tokens,
                                          size_t vocab) {
  const auto prompts = EightPrompts(static_cast<int32_t>(vocab), 1, /*return_logits=*/false);
  if (tokens.size() != prompts.size()) return {};
  std::ifstream in(path + ".logits", std::ios::binary);
  std::vector<GenerationResult> results(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    results[i].tokens.assign(tokens[i].begin(), tokens[i].end());
    results[i].logits.resize((prompts[i].prompt.size() + tokens[i].size() - 1) * vocab);
    in.read(reinterpret_cast<char*>(results[i].logits.data()),
            results[i].logits.size() * sizeof(float));
  }
  return in ? results : std::vector<GenerationResult>();
}

int Compare(const std::string& a, const std::string& b, double tolerance) {
  const auto json_a = nlohmann::json::parse(std::ifstream(a));
  const auto json_b = nlohmann::json::parse(std::ifstream(b));
  const auto tokens_a = json_a.at("tokens").get<std::vector<std::vector<int>>>();
  const auto tokens_b = json_b.at("tokens").get<std::vector<std::vector<int>>>();
  const auto vocab = json_b.at("vocab").get<size_t>();
  const int tokens = tokens_b.empty() ? 0 : static_cast<int>(tokens_b[0].size());
  const auto requests = EightPrompts(static_cast<int32_t>(vocab), tokens, /*return_logits=*/true);
  const RunDifference found = CompareRuns(requests, vocab, ReadResults(a, tokens_a, vocab),
                                          ReadResults(b, tokens_b, vocab), tolerance);
  std::cout << found.Text() << "\n";
  return found.Within(tolerance) ? 0 : 1;
}

absl::StatusOr<RankEngineOptions> OptionsOf(const ProbeFlags& flags) {
  RankEngineOptions options;
  options.device = flags.device;
  options.device_options.threads = flags.threads;
  options.device_options.deterministic = true;
  TESSERA_ASSIGN_OR_RETURN(options.comm, ParseLinkPreference(flags.comm));
  const char* local_rank = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");
  if (const int gpus = kernels::NumGpus().value_or(0); gpus > 0 && local_rank != nullptr) {
    options.device_options.gpu = std::atoi(local_rank) % gpus;
  }
  return options;
}

absl::Status Serve(const ProbeFlags& flags, const ModelFile& file, const v1::ShardPlan& plan,
                   Communicator* world, GenerationScript& script) {
  TESSERA_ASSIGN_OR_RETURN(const RankEngineOptions options, OptionsOf(flags));
  TESSERA_ASSIGN_OR_RETURN(auto engine, RankEngine::Create(file, plan, world, options));
  return engine->Serve(world->rank() == 0 ? &script : nullptr);
}

absl::Status RunJob(const ProbeFlags& flags, const ModelFile& file, const v1::ShardPlan& plan,
                    Communicator* world) {
  const int32_t vocab = file.description().architecture().vocab_size();
  GenerationScript script(plan, EightPrompts(vocab, flags.tokens, /*return_logits=*/true),
                          {.steps_in_flight = flags.pp});
  TESSERA_RETURN_IF_ERROR(Serve(flags, file, plan, world, script));
  if (world->rank() == 0) WriteResults(flags.out, vocab, script.results());
  return absl::OkStatus();
}

// Passes everything on and notes how long each kind of step took, first to last. Steps that mix
// prompt chunks and decodes count as neither.
class TimedScript : public StepChannel {
 public:
  explicit TimedScript(GenerationScript& script) : script_(script) {}

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override {
    TESSERA_ASSIGN_OR_RETURN(std::optional<v1::StepPlan> step, script_.NextPlan(wait));
    if (step) {
      began_ = absl::Now();
      tokens_ = chunks_ = 0;
      for (const v1::SequenceChunk& chunk : step->chunks()) tokens_ += chunk.token_ids_size();
      chunks_ = step->chunks_size();
      decodes_ = true;
      for (const v1::SequenceChunk& chunk : step->chunks()) {
        decodes_ = decodes_ && chunk.token_ids_size() == 1;
      }
    }
    return step;
  }

  absl::Status SendResult(v1::StepResult result) override {
    const absl::Duration took = absl::Now() - began_;
    if (decodes_ && chunks_ == most_chunks_) {
      decode += took;
      decoded += tokens_;
    } else if (tokens_ > chunks_) {
      prefill += took;
      prefilled += tokens_;
    }
    most_chunks_ = std::max(most_chunks_, chunks_);
    return script_.SendResult(std::move(result));
  }

  absl::Duration prefill, decode;
  int64_t prefilled = 0, decoded = 0;

 private:
  GenerationScript& script_;
  absl::Time began_;
  int64_t tokens_ = 0, chunks_ = 0, most_chunks_ = 0;
  bool decodes_ = false;
};

// `batch` sequences: `prompt_tokens` each in one step, then the tokens one by one.
absl::Status Measure(const ProbeFlags& flags, int batch, int prompt_tokens, const ModelFile& file,
                     const v1::ShardPlan& plan, Communicator* world) {
  std::vector<GenerationRequest> requests(batch);
  for (int r = 0; r < batch; ++r) {
    for (int i = 0; i < prompt_tokens; ++i) {
      requests[r].prompt.push_back((i * 7919 + r * 104729) % 40000 + 100);
    }
    requests[r].max_new_tokens = flags.tokens;
  }
  GenerationScript script(plan, requests, {});
  TimedScript timed(script);
  TESSERA_ASSIGN_OR_RETURN(const RankEngineOptions options, OptionsOf(flags));
  TESSERA_ASSIGN_OR_RETURN(auto engine, RankEngine::Create(file, plan, world, options));
  TESSERA_RETURN_IF_ERROR(engine->Serve(world->rank() == 0 ? &timed : nullptr));
  if (world->rank() == 0) {
    std::cout << engine->DeviceName() << ", " << flags.tp << "x" << flags.pp << ", "
              << flags.threads << " threads per rank, batch " << batch << ": prefill "
              << timed.prefilled / absl::ToDoubleSeconds(timed.prefill) << " tokens/s, decode "
              << timed.decoded / absl::ToDoubleSeconds(timed.decode) << " tokens/s (at context "
              << prompt_tokens << ".." << prompt_tokens + flags.tokens << ")\n";
  }
  return absl::OkStatus();
}

absl::Status MeasureBatches(const ProbeFlags& flags, const ModelFile& file,
                            const v1::ShardPlan& plan, Communicator* world) {
  if (flags.batches.empty()) return Measure(flags, 1, 512, file, plan, world);
  for (int batch : flags.batches) {
    TESSERA_RETURN_IF_ERROR(Measure(flags, batch, 32, file, plan, world));
  }
  return absl::OkStatus();
}

absl::Status Probe(const ProbeFlags& flags) {
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world, MakeMpiCommunicator({}));
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> file,
                           OpenModel(flags.model, LoadFormat::kAuto,
                                     flags.fp8 ? Quantization::kFp8 : Quantization::kAsStored));
  const v1::ShardPlan plan = PlanOf(*file, flags.tp, flags.pp);
  return flags.measure ? MeasureBatches(flags, *file, plan, world.get())
                       : RunJob(flags, *file, plan, world.get());
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  tessera::worker::ProbeFlags flags;
  CLI::App app("Runs a fixed job on a layout and writes down what came out");
  app.add_option("--model", flags.model, "GGUF file or Hugging Face folder");
  app.add_option("--tp", flags.tp, "tensor-parallel size");
  app.add_option("--pp", flags.pp, "pipeline-parallel size");
  app.add_option("--tokens", flags.tokens, "greedy tokens per prompt");
  app.add_option("--threads", flags.threads, "compute threads per rank");
  app.add_option("--out", flags.out, "where the leader writes");
  app.add_option("--compare", flags.compare, "two outputs to compare: one, reference")->expected(2);
  app.add_option("--tolerance", flags.tolerance, "of --compare");
  app.add_option("--device", flags.device, "cpu, cuda or auto");
  app.add_option("--comm", flags.comm, "auto, mpi or nccl");
  app.add_flag("--fp8", flags.fp8, "weights as 8-bit floats");
  app.add_flag("--measure", flags.measure, "print tokens/s instead");
  app.add_option("--batch", flags.batches, "sequences that decode together, one run for each")
      ->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  if (flags.compare.size() == 2) {
    return tessera::worker::Compare(flags.compare[0], flags.compare[1], flags.tolerance);
  }
  const absl::Status status = tessera::worker::Probe(flags);
  if (!status.ok()) std::cerr << "layout probe: " << status << "\n";
  return status.ok() ? 0 : 1;
}
