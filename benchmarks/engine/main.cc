// tokens/s of a model file on a layout: kernels, engine and communicator, without coordinator and
// network. Prints one JSON object (report.h) on the standard output.
//
//   tessera_bench_engine --model M.gguf --threads 2                  # pp512, tg128, tg128x16
//   tessera_bench_engine --model M.gguf --tests pp512,tg128@4096     # decode at a context of 4096
//   tessera_bench_engine --model M.gguf --tp 2 --communicator thread # ranks as threads
//   mpirun -n 4 tessera_bench_engine --model M.gguf --tp 2 --pp 2    # ranks as processes
//
// A test is named by what each stream does: ppN prompt tokens, tgN decoded tokens, ppN+tgN both;
// then xS for S streams together and @D for D tokens already in the KV cache.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/engine/bench_script.h"
#include "benchmarks/engine/read_speed.h"
#include "benchmarks/engine/report.h"
#include "coordinator/plan/shard_planner.h"
#include "proto/base/status_macros.h"
#include "worker/comm/communicator.h"
#include "worker/engine/core_shares.h"
#include "worker/engine/rank_engine.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

struct Flags {
  std::string model;
  std::string load_format = "auto";
  int tp = 1;
  int pp = 1;
  int threads = 0;
  int repetitions = 5;
  std::vector<std::string> tests = {"pp512", "tg128", "tg64x16"};
  std::string communicator = "auto";
  std::string device = "cpu";
  std::string instruction_set = "auto";
  std::vector<int> layer_split;
  int prompt_tokens_per_step = 0;
  int steps_in_flight = 0;
  bool read_speed = true;
  bool warm_up = true;
};

int NumberOr(const std::string& text, int fallback) {
  int number = fallback;
  return absl::SimpleAtoi(text, &number) ? number : fallback;
}

absl::StatusOr<std::vector<BenchRun>> ParseTests(const std::vector<std::string>& names) {
  static const std::regex form(
      R"((?:pp(\d{1,6}))?\+?(?:tg(\d{1,6}))?(?:x(\d{1,4}))?(?:@(\d{1,6}))?)");
  std::vector<BenchRun> runs;
  for (const std::string& name : names) {
    std::smatch part;
    BenchRun run{.name = name};
    if (std::regex_match(name, part, form)) {
      run.prompt = NumberOr(part[1], 0);
      run.decode = NumberOr(part[2], 0);
      run.streams = NumberOr(part[3], 1);
      run.depth = NumberOr(part[4], 0);
    }
    if (run.prompt + run.decode == 0 || run.streams == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--tests: '", name, "'; expected ppN, tgN or ppN+tgN, then xSTREAMS, then @DEPTH"));
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

absl::StatusOr<v1::ShardPlan> PlanFor(const Flags& flags, const std::vector<BenchRun>& runs,
                                      const v1::ModelDescription& model) {
  coordinator::Layout layout;
  layout.tensor_parallel = flags.tp;
  layout.pipeline_parallel = flags.pp;
  layout.layer_split = flags.layer_split;
  int longest = 1, most_streams = 1;
  int64_t most_tokens = 1;
  for (const BenchRun& run : runs) {
    const int length = run.depth + run.prompt + run.decode;
    longest = std::max(longest, length);
    most_streams = std::max(most_streams, run.streams);
    // One block more than full ones for each stream.
    most_tokens = std::max(most_tokens, int64_t{run.streams} * (length + layout.kv_block_tokens));
  }
  layout.max_model_len = longest;
  layout.max_sequences_per_step = most_streams;
  TESSERA_ASSIGN_OR_RETURN(v1::ShardPlan plan, coordinator::PlanShards(model, layout));
  plan.set_num_kv_blocks(
      static_cast<int>((most_tokens + layout.kv_block_tokens - 1) / layout.kv_block_tokens) + 1);
  return plan;
}

struct RankOutcome {
  absl::Status status;
  std::string device;
  double load_seconds = 0;
  v1::StepTimes times;
};

absl::Status ServeRank(const Flags& flags, const ModelFile& file, const v1::ShardPlan& plan,
                       Communicator* world, BenchScript& script, RankOutcome& outcome) {
  RankEngineOptions options;
  options.device = flags.device;
  options.device_options.threads = flags.threads;
  options.device_options.instruction_set = flags.instruction_set;
  StepClock clock;
  options.clock = &clock;
  const auto began = std::chrono::steady_clock::now();
  TESSERA_ASSIGN_OR_RETURN(auto engine, RankEngine::Create(file, plan, world, options));
  outcome.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  outcome.device = engine->DeviceName();
  TESSERA_RETURN_IF_ERROR(engine->Serve(world->rank() == 0 ? &script : nullptr));
  outcome.times = clock.Read();
  return absl::OkStatus();
}

// Of all ranks, at rank 0; the others only send theirs.
absl::StatusOr<std::vector<v1::StepTimes>> CollectTimes(Communicator& world,
                                                        const v1::StepTimes& own) {
  constexpr int kTimesTag = 1;
  std::vector<v1::StepTimes> times = {own};
  if (world.rank() != 0) {
    const std::string text = own.SerializeAsString();
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    TESSERA_RETURN_IF_ERROR(world.Send(0, kTimesTag, Bytes(bytes, bytes + text.size())));
    return times;
  }
  for (int peer = 1; peer < world.size(); ++peer) {
    TESSERA_ASSIGN_OR_RETURN(const Bytes bytes, world.Receive(peer, kTimesTag));
    if (!times.emplace_back().ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return absl::InternalError(absl::StrCat("the times of rank ", peer, " do not parse"));
    }
  }
  return times;
}

// Ranks as threads, or the one rank alone.
std::vector<RankOutcome> ServeHere(const Flags& flags, const ModelFile& file,
                                   const v1::ShardPlan& plan, BenchScript& script) {
  std::vector<std::unique_ptr<Communicator>> worlds;
  if (plan.ranks_size() == 1) {
    worlds.push_back(MakeNullCommunicator());
  } else {
    worlds = MakeThreadCommunicators(plan.ranks_size(), {});
  }
  std::vector<RankOutcome> outcomes(worlds.size());
  std::vector<std::thread> ranks;
  for (size_t i = 0; i < worlds.size(); ++i) {
    ranks.emplace_back([&, i] {
      outcomes[i].status = ServeRank(flags, file, plan, worlds[i].get(), script, outcomes[i]);
      worlds[i].reset();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return outcomes;
}

absl::Status Run(Flags flags) {
  const int ranks = flags.tp * flags.pp;
  const bool by_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  if (flags.communicator == "auto") {
    flags.communicator = by_mpirun ? "mpi" : ranks > 1 ? "thread" : "null";
  }
  // As tessera-worker does.
  const char* on_host = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  int ranks_on_host = ranks;
  if (by_mpirun && (on_host == nullptr || !absl::SimpleAtoi(on_host, &ranks_on_host))) {
    ranks_on_host = 1;
  }
  const CoreShares shares = {.ranks = ranks,
                             .ranks_on_host = ranks_on_host,
                             .cores = static_cast<int>(std::thread::hardware_concurrency()),
                             .threads_per_rank = flags.threads};
  flags.threads = ThreadsOf(shares, flags.tp);
  if (flags.steps_in_flight == 0) {
    const bool in_turns = flags.device == "cpu" && StagesAreTimeSliced(shares);
    flags.steps_in_flight = in_turns ? 1 : flags.pp;
  }
  std::unique_ptr<Communicator> world;
  if (flags.communicator == "mpi") {
    TESSERA_ASSIGN_OR_RETURN(world, MakeMpiCommunicator({}));
    if (world->size() != ranks) {
      return absl::InvalidArgumentError(absl::StrCat("--tp ", flags.tp, " --pp ", flags.pp,
                                                     " needs ", ranks, " ranks; mpirun started ",
                                                     world->size()));
    }
    if (flags.device == "cpu" && CoresAreShared(shares, flags.tp)) world->ShareCores();
  }
  TESSERA_ASSIGN_OR_RETURN(const std::vector<BenchRun> runs, ParseTests(flags.tests));
  TESSERA_ASSIGN_OR_RETURN(const LoadFormat format, ParseLoadFormat(flags.load_format));
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<ModelFile> file, OpenModel(flags.model, format));
  const v1::ModelDescription& model = file->description();
  TESSERA_ASSIGN_OR_RETURN(const v1::ShardPlan plan, PlanFor(flags, runs, model));

  const bool reports = !world || world->rank() == 0;
  BenchSetting setting{.device = "",
                       .communicator = flags.communicator,
                       .threads_per_rank = flags.threads,
                       .steps_in_flight = flags.steps_in_flight};
  std::optional<ReadMeter> meter;
  BenchOptions options{.repetitions = flags.repetitions,
                       .warm_up = flags.warm_up,
                       .prompt_tokens_per_step = flags.prompt_tokens_per_step,
                       .steps_in_flight = flags.steps_in_flight};
  if (reports && flags.read_speed) {
    meter.emplace(WeightBytesPerToken(model, plan), flags.threads * ranks);
    if (meter->ready()) options.read_speed = [&meter] { return meter->Measure(); };
  }
  // Nobody loads while rank 0 writes what it will read.
  if (world) TESSERA_RETURN_IF_ERROR(world->Barrier());
  BenchScript script(plan, runs, options);
  RankOutcome outcome;
  if (world) {
    outcome.status = ServeRank(flags, *file, plan, world.get(), script, outcome);
    TESSERA_RETURN_IF_ERROR(outcome.status);
    TESSERA_ASSIGN_OR_RETURN(setting.rank_times, CollectTimes(*world, outcome.times));
  } else {
    const std::vector<RankOutcome> outcomes = ServeHere(flags, *file, plan, script);
    outcome = outcomes[0];
    TESSERA_RETURN_IF_ERROR(outcome.status);
    for (const RankOutcome& rank : outcomes) setting.rank_times.push_back(rank.times);
  }
  setting.device = outcome.device;
  setting.load_seconds = outcome.load_seconds;
  if (reports) std::cout << BenchReport(model, plan, setting, script.timings()) << std::endl;
  return absl::OkStatus();
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  tessera::worker::Flags flags;
  CLI::App app("tokens/s of a model file on a layout, as JSON");
  app.add_option("--model,-m", flags.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--load-format", flags.load_format, "auto, gguf, safetensors, dummy");
  app.add_option("--tp", flags.tp, "tensor-parallel size")->check(CLI::PositiveNumber);
  app.add_option("--pp", flags.pp, "pipeline-parallel size")->check(CLI::PositiveNumber);
  app.add_option("--layer-split", flags.layer_split, "layers per stage (by cost)")->delimiter(',');
  app.add_option("--prompt-tokens-per-step", flags.prompt_tokens_per_step,
                 "of a prompt (0: 512, or fewer where there are several stages to fill)");
  app.add_option("--steps-in-flight", flags.steps_in_flight,
                 "over which the streams are dealt (0: one for each pipeline stage, or one where\n"
                 "stages take turns: on one host, without --threads)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--threads,-t", flags.threads, "compute threads per rank (0: its share of cores)");
  app.add_option("--repetitions,-r", flags.repetitions, "timed repetitions of each test")
      ->check(CLI::PositiveNumber);
  app.add_option("--tests", flags.tests, "ppN, tgN, ppN+tgN; then xSTREAMS, then @DEPTH")
      ->delimiter(',');
  app.add_option("--communicator", flags.communicator, "auto, mpi (under mpirun), thread");
  app.add_option("--device", flags.device, "cpu, cuda");
  app.add_option("--instruction-set", flags.instruction_set, "cpu: auto, scalar, avx2, avx512, ...");
  app.add_flag("!--no-read-speed", flags.read_speed, "do not measure the read speed");
  app.add_flag("!--no-warm-up", flags.warm_up, "time the first pass of each test too");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tessera::worker::Run(flags);
  if (!status.ok()) std::cerr << "tessera_bench_engine: " << status << "\n";
  return status.ok() ? 0 : 1;
}
