// tessera_scheduler_scale: what the coordinator costs, over a group that costs nothing.
//
//   - CPU time per step of Scheduler::Schedule and Commit (one step ahead, prompts of 64 to 960
//     tokens, KV blocks of 16), at 64 and at 4,096 sequences: all
//     decoding ("steady"), and with answers ending and prompts coming in ("churn"). Serializing the
//     plan, as the transport does, is listed apart.
//   - Concurrent streams, 10,000 by default, each with a prompt of 32 tokens: through the engine
//     loop, through the front door (text prompts, checks, metrics), and over gRPC on the loopback
//     with the clients in another process. The group is the simulated one, which answers at once
//     and shares this process: its time and its copies of plans and results are in the figures.
//     Memory per stream is the growth of this process's resident set from before the first stream
//     to when all run. Of gRPC it holds the server's side alone.
//
// Prints measured, goal and measured/goal; --json for machines. Figures of a busy machine say
// little per second; CPU time per token says more.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/serving/scale_report.h"
#include "benchmarks/serving/scale_steps.h"
#include "benchmarks/serving/scale_streams.h"

namespace tessera::benchmarks {
namespace {

constexpr double kKibPerStream = 32;

void AddSteps(ScaleReport* report) {
  for (const bool churn : {false, true}) {
    for (const auto& [sequences, goal] : {std::pair(64, 50.0), std::pair(4096, 1000.0)}) {
      const StepCpu cpu = MeasureSteps(
          {.sequences = sequences, .steps = sequences < 1000 ? 2000 : 200, .churn = churn});
      const std::string what =
          absl::StrCat("step of ", sequences, " sequences, ", churn ? "churn" : "steady");
      report->Add({what + ": CPU", cpu.mean, "us", goal});
      report->Add({what + ": CPU, p99", cpu.p99, "us"});
      report->Add({what + ": serializing the plan", cpu.serialize, "us"});
      report->Add({what + ": mean context", cpu.context, "tokens"});
    }
  }
}

void AddStreams(const StreamsOptions& options, const char* door, ScaleReport* report) {
  const StreamsResult result = MeasureStreams(options);
  const std::string what = absl::StrCat(options.streams, " streams, ", door);
  report->Add({what + ": running at once", result.most_running, ""});
  report->Add({what + ": failed", result.failed, ""});
  report->Add({what + ": throughput", result.tokens_per_second, "tokens/s"});
  report->Add({what + ": CPU per token", result.cpu_micros_per_token, "us"});
  report->Add({what + ": cores busy", result.cores, ""});
  report->Add({what + ": memory per stream", result.kib_per_stream, "KiB", kKibPerStream});
}

// The goals are for two cores.
void UseCores(int count) {
  cpu_set_t available;
  cpu_set_t used;
  CPU_ZERO(&used);
  if (sched_getaffinity(0, sizeof(available), &available) != 0) return;
  for (int core = 0; core < CPU_SETSIZE && count > 0; ++core) {
    if (!CPU_ISSET(core, &available)) continue;
    CPU_SET(core, &used);
    --count;
  }
  sched_setaffinity(0, sizeof(used), &used);
}

int Main(int argc, char** argv) {
  CLI::App app{"What the coordinator costs: CPU per step, memory and throughput of many streams"};
  StreamsOptions options;
  options.program = "/proc/self/exe";
  bool json = false;
  int cores = 2;
  std::string clients_of;
  std::string only;
  app.add_option("--streams", options.streams, "Concurrent streams")->check(CLI::Range(1, 100'000));
  app.add_option("--tokens", options.tokens, "Tokens per stream")->check(CLI::Range(1, 900));
  app.add_option("--cores", cores, "Cores to use")->check(CLI::Range(1, 1024));
  app.add_option("--only", only, "One part: steps, loop, door or grpc")
      ->check(CLI::IsMember({"steps", "loop", "door", "grpc"}));
  app.add_flag("--json", json, "JSON instead of a table");
  app.add_option("--clients-of", clients_of)->group("");  // the process of the gRPC clients
  CLI11_PARSE(app, argc, argv);
  UseCores(cores);
  if (!clients_of.empty()) return RunGrpcClients(clients_of, options.streams, options.tokens);

  const auto wanted = [&](const char* part) { return only.empty() || only == part; };
  ScaleReport report;
  if (wanted("steps")) AddSteps(&report);
  options.door = Door::kRouter;
  if (wanted("loop")) AddStreams(options, "engine loop", &report);
  options.door = Door::kFrontDoor;
  if (wanted("door")) AddStreams(options, "front door", &report);
  options.door = Door::kGrpc;
  if (wanted("grpc")) AddStreams(options, "gRPC", &report);
  std::fputs((json ? report.Json() : report.Table()).c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace tessera::benchmarks

int main(int argc, char** argv) { return tessera::benchmarks::Main(argc, argv); }
