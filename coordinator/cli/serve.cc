// tessera serve: the coordinator.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/serve_session.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

struct ServeFlags {
  ServeOptions options;
  std::string launch = "mpirun";
  std::string hostfile;
  std::string mpirun_args;
  std::string policy = "fcfs";
  bool no_http = false;
  bool no_lookahead = false;
  double shutdown_timeout = 1;
};

void AddModelFlags(CLI::App& app, ServeOptions& options) {
  AddFlag(app, "--model", options.model, "A .gguf file or a Hugging Face folder");
  AddFlag(app, "--served-model-name", options.engine.served_model_name,
          "What clients call the model (default: its own name)");
  AddFlag(app, "--load-format", options.load_format,
          "auto, gguf, safetensors, or dummy: random weights from a config alone")
      ->check(CLI::IsMember({"auto", "gguf", "safetensors", "dummy"}));
  AddFlag(app, "--quantization", options.quantization,
          "fp8: weights are rounded to 8-bit floats while they are loaded; GPUs only")
      ->check(CLI::IsMember({"fp8"}));
}

void AddListeningFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& options = flags.options;
  AddFlag(app, "--host", options.host, "Where clients may call from: an address of this host")
      ->capture_default_str();
  AddFlag(app, "--port", options.http_port, "HTTP; 0: chosen by the system")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddFlag(app, "--grpc-port", options.grpc_port, "0: chosen by the system")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddFlag(app, "--cluster-host", options.cluster_host, "Where worker groups join")
      ->capture_default_str();
  AddFlag(app, "--cluster-port", options.cluster_port, "0: chosen by the system")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddSwitch(app, "--no-http", flags.no_http, "gRPC alone");
  AddFlag(app, "--api-key", options.access.api_keys,
          "A key that clients must send; may be given several times")
      ->allow_extra_args(false);
  AddFlag(app, "--tenants-file", options.access.tenants_file,
          "JSON: tenants, their weights and keys");
}

void AddSchedulingFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& options = flags.options;
  AddFlag(app, "--max-queue", options.engine.limits.max_queue,
          "Requests that may wait; more are refused")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  AddFlag(app, "--scheduling-policy", flags.policy,
          "fcfs: by arrival; priority: lower priority values first")
      ->check(CLI::IsMember({"fcfs", "priority"}))
      ->capture_default_str();
  app.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching",
               options.engine.limits.prefix_caching,
               "Keep the KV blocks of prompts for those that begin alike (default: on)")
      ->envname(EnvironmentName("--enable-prefix-caching"));
  AddFlag(app, "--prefill-stretch", options.engine.limits.prefill_stretch,
          "How much longer prompts may make a step of running streams; 0: no bound")
      ->check(CLI::Range(0.0, 1000.0))
      ->capture_default_str();
  AddSwitch(app, "--no-lookahead", flags.no_lookahead,
            "Send a step only once the last one's tokens are back");
}

void AddLaunchFlags(CLI::App& app, ServeFlags& flags) {
  AddFlag(app, "--launch", flags.launch, "mpirun: start the group; external: wait for one")
      ->check(CLI::IsMember({"mpirun", "external"}))
      ->capture_default_str();
  AddFlag(app, "--hostfile", flags.hostfile, "mpirun's: hosts and their slots");
  AddFlag(app, "--mpirun-args", flags.mpirun_args, "More arguments for mpirun, in one string");
  AddFlag(app, "--threads-per-rank", flags.options.threads_per_rank,
          "Compute threads of a rank (default: its share of the cores)")
      ->check(CLI::Range(1, 1024));
  AddFlag(app, "--instruction-set", flags.options.instruction_set,
          "Of the workers' CPUs: auto, or a lesser one for tests: scalar, avx2, avx512");
  AddFlag(app, "--device", flags.options.device,
          "cpu, cuda or auto: cuda where there is one (default: the worker's)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  AddFlag(app, "--comm", flags.options.comm,
          "How ranks exchange activations: mpi, nccl or auto (default: the worker's)")
      ->check(CLI::IsMember({"auto", "mpi", "nccl"}));
  AddSwitch(app, "--deterministic", flags.options.deterministic,
            "On GPUs: the same tokens whatever else a step computes, at some cost");
  AddFlag(app, "--comm-timeout", flags.options.comm_timeout_seconds,
          "Seconds after which a rank that waits for another gives up (default: the worker's)")
      ->check(CLI::Range(0.1, 86400.0));
  AddFlag(app, "--shutdown-timeout", flags.shutdown_timeout,
          "Seconds that running requests get after Ctrl-C")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddFlag(app, "--ready-file", flags.options.ready_file, "Gets HOST:PORT of gRPC, then of HTTP, once a group serves");
  AddSwitch(app, "--verbose", flags.options.verbose, "Show what the workers print");
}

int RunServe(ServeFlags flags) {
  ServeOptions& options = flags.options;
  options.external = flags.launch == "external";
  if (options.model.empty() && !options.external) {
    PrintError("--model is required; see tessera serve --help");
    return 2;
  }
  options.http = !flags.no_http;
  options.engine.limits.lookahead = !flags.no_lookahead;
  options.engine.limits.policy =
      flags.policy == "priority" ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs;
  options.shutdown_timeout = absl::Seconds(flags.shutdown_timeout);
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
  CLI::App* app = parent.add_subcommand("serve", "Serve a model from a group of workers");
  AddModelFlags(*app, flags->options);
  AddLayoutFlags(*app, flags->options.engine.layout);
  AddListeningFlags(*app, *flags);
  AddSchedulingFlags(*app, *flags);
  AddLaunchFlags(*app, *flags);
  app->footer(
      "Examples:\n"
      "  tessera serve --model model.gguf -tp 2 -pp 2\n"
      "  tessera serve --model model.gguf -tp 2 --tensor-split 3,1 --grpc-port 0\n"
      "  tessera serve --launch external -tp 4 --cluster-host 0.0.0.0");
  return {app, [flags] { return RunServe(*flags); }};
}

}  // namespace tessera::coordinator
