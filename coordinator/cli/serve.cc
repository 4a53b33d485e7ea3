// tessera serve: the coordinator.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/serve_session.h"
#include "coordinator/cli/terminal.h"
#include "proto/flags/worker_flags.h"

namespace tessera::coordinator {
namespace {

using flags::Declare;
using flags::Flag;
using flags::PassedOn;

struct ServeFlags {
  ServeOptions options;
  std::string hostfile;
  std::string mpirun_args;
  bool no_http = false;
  bool no_lookahead = false;
};

void AddModelFlags(CLI::App& app, ServeOptions& options) {
  Declare(app, flags::kModel, options.model);
  Declare(app,
          {.name = "--served-model-name",
           .help = "What clients call the model",
           .value = "NAME",
           .otherwise = "its own name"},
          options.engine.served_model_name);
  Declare(app, PassedOn(flags::kLoadFormat), options.load_format);
  Declare(app, PassedOn(flags::kQuantization), options.quantization);
}

void AddListeningFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& options = flags.options;
  Declare(app,
          {.name = "--host",
           .help = "Where clients may call from: an address of this host",
           .value = "ADDRESS"},
          options.host);
  Declare(app,
          {.name = "--port",
           .help = "Clients' HTTP; 0: chosen by the system",
           .range = flags::kPorts},
          options.http_port);
  Declare(app,
          {.name = "--grpc-port",
           .help = "Clients' gRPC; 0: chosen by the system",
           .range = flags::kPorts},
          options.grpc_port);
  Declare(app,
          {.name = "--cluster-host", .help = "Where worker groups join", .value = "ADDRESS"},
          options.cluster_host);
  Declare(app,
          {.name = "--cluster-port",
           .help = "Worker groups join here; 0: chosen by the system",
           .range = flags::kPorts},
          options.cluster_port);
  Declare(app, {.name = "--no-http", .help = "gRPC alone"}, flags.no_http);
  Declare(app,
          {.name = "--api-key",
           .help = "A key that clients must send; may be given several times",
           .value = "KEY"},
          options.access.api_keys);
  Declare(app,
          {.name = "--tenants-file",
           .help = "JSON: tenants, their weights and keys",
           .value = "PATH"},
          options.access.tenants_file);
}

void AddSchedulingFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& options = flags.options;
  Declare(app,
          {.name = "--max-queue",
           .help = "Requests that may wait; more are refused",
           .range = Range{.lowest = 1, .highest = 1 << 20},
           .unit = "requests"},
          options.engine.limits.max_queue);
  flags::DeclareWords<SchedulingPolicy>(
      app,
      {.name = "--scheduling-policy",
       .help = "fcfs: by arrival; priority: lower priority values first"},
      {{"fcfs", SchedulingPolicy::kFcfs}, {"priority", SchedulingPolicy::kPriority}},
      options.engine.limits.policy);
  Declare(app,
          {.name = "--enable-prefix-caching,!--no-enable-prefix-caching",
           .help = "Keep the KV blocks of prompts for those that begin alike"},
          options.engine.limits.prefix_caching);
  Declare(app,
          {.name = "--prefill-stretch",
           .help = "How much longer prompts may make a step of running streams; 0: no bound",
           .range = Range{.lowest = 0, .highest = 1000},
           .unit = "times"},
          options.engine.limits.prefill_stretch);
  Declare(app,
          {.name = "--no-lookahead",
           .help = "Send a step only once the last one's tokens are back"},
          flags.no_lookahead);
}

void AddLaunchFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& options = flags.options;
  flags::DeclareWords<bool>(
      app, {.name = "--launch", .help = "mpirun: start the group; external: wait for one"},
      {{"mpirun", false}, {"external", true}}, options.external);
  Declare(app,
          {.name = "--data-parallel-size",
           .help = "Worker groups to start, each with the whole model; also -dp",
           .range = Range{.lowest = 1, .highest = 256},
           .unit = "groups"},
          options.data_parallel);
  Declare(app,
          {.name = "--max-relaunches",
           .help = "Starts in a row of a lost group that do not come to serve before it is given "
                   "up; 0: a lost group is not started again",
           .range = Range{.lowest = 0, .highest = 1000}},
          options.max_relaunches);
  flags::DeclareSeconds(app,
                        {.name = "--failure-timeout",
                         .help = "A group is given up that has a rank without a sign of life for so "
                                 "long, or a step that takes so much longer than expected",
                         .range = Range{.lowest = 1, .highest = 86400}},
                        options.engine.failure_timeout);
  flags::DeclareSeconds(app,
                        {.name = "--replay-timeout",
                         .help = "How long requests of a lost group wait for another one",
                         .range = flags::kWaits},
                        options.replay.patience);
  Declare(app,
          {.name = "--hostfile", .help = "mpirun's: hosts and their slots", .value = "PATH"},
          flags.hostfile);
  Declare(app,
          {.name = "--mpirun-args",
           .help = "More arguments for mpirun, in one string",
           .value = "ARGUMENTS"},
          flags.mpirun_args);
  Flag threads = PassedOn(flags::kThreadsPerRank);
  threads.range->lowest = 1;  // left out instead of 0
  threads.help = "Compute threads of each rank";
  threads.otherwise = "its share of the cores";
  Declare(app, threads, options.threads_per_rank);
  Declare(app, PassedOn(flags::kInstructionSet), options.instruction_set);
  Declare(app, PassedOn(flags::kDevice), options.device);
  Declare(app, PassedOn(flags::kComm), options.comm);
  Declare(app, flags::kDeterministic, options.deterministic);
  Declare(app, PassedOn(flags::kCommTimeout), options.comm_timeout_seconds);
  flags::DeclareSeconds(app,
                        {.name = "--shutdown-timeout",
                         .help = "What running requests get to end after SIGTERM or Ctrl-C; a second one ends at "
                                 "once",
                         .range = flags::kWaits},
                        options.shutdown_timeout);
  Declare(app,
          {.name = "--ready-file",
           .help = "Gets HOST:PORT of gRPC, then of HTTP, once a group serves",
           .value = "PATH"},
          options.ready_file);
  Declare(app, {.name = "--verbose", .help = "Show what the workers print"}, options.verbose);
}

int RunServe(ServeFlags flags) {
  ServeOptions& options = flags.options;
  if (options.model.empty() && !options.external) {
    PrintError("--model is required; see tessera serve --help");
    return 2;
  }
  options.http = !flags.no_http;
  options.engine.limits.lookahead = !flags.no_lookahead;
  if (!flags.hostfile.empty()) options.mpirun_args = {"--hostfile", flags.hostfile};
  for (const std::string& arg : CLI::detail::split_up(flags.mpirun_args)) {
    options.mpirun_args.push_back(arg);
  }
  const absl::Status status = ServeSession(options).Run();
  return status.ok() ? 0 : ExitWith(status);
}

}  // namespace

Command AddServe(CLI::App& parent) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* app = parent.add_subcommand("serve", "Serve a model from groups of workers");
  AddModelFlags(*app, flags->options);
  AddLayoutFlags(*app, flags->options.engine.layout);
  AddListeningFlags(*app, *flags);
  AddSchedulingFlags(*app, *flags);
  AddLaunchFlags(*app, *flags);
  app->footer(
      "Examples:\n"
      "  tessera serve --model model.gguf -tp 2 -pp 2\n"
      "  tessera serve --model model.gguf -tp 2 --tensor-split 3,1 --grpc-port 0\n"
      "  tessera serve --model model.gguf --data-parallel-size 2\n"
      "  tessera serve --launch external -tp 4 --cluster-host 0.0.0.0");
  return {app, [flags] { return RunServe(*flags); }};
}

}  // namespace tessera::coordinator
