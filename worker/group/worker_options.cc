#include "worker/group/worker_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/flags/declare.h"
#include "proto/flags/worker_flags.h"

namespace tessera::worker {
namespace {

constexpr int kUsageError = 2;
constexpr char kPurpose[] =
    "One rank of a Tessera worker group.\n"
    "  mpirun -n 4 tessera-worker --coordinator HOST:PORT --model PATH";

constexpr absl::string_view kCommunicators[] = {"mpi", "null"};

// What the flags hold before they are resolved against each other and the placement.
struct RawFlags {
  std::string load_format = "auto";
  std::string quantization;
  int health_port = 0;
  std::string communicator;
  std::string comm = "auto";
};

int EnvironmentInt(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  int value = 0;
  return text && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

void DeclareFlags(CLI::App& app, WorkerOptions& options, RawFlags& raw) {
  using flags::Declare;
  Declare(app, flags::kModel, options.model);
  Declare(app,
          {.name = "--coordinator", .help = "The coordinator's cluster port", .value = "HOST:PORT"},
          options.coordinator);
  Declare(app,
          {.name = "--group-id",
           .help = "What the group is called, as in tessera status",
           .value = "NAME",
           .otherwise = "host, process and a random part"},
          options.group_id);
  Declare(app,
          {.name = "--served-model-name",
           .help = "What clients call this group's model",
           .value = "NAME",
           .otherwise = "as the coordinator says"},
          options.served_model_name);
  Declare(app, flags::kLoadFormat, raw.load_format);
  Declare(app, flags::kQuantization, raw.quantization);
  Declare(app, flags::kThreadsPerRank, options.threads);
  Declare(app, flags::kInstructionSet, options.instruction_set);
  Declare(app,
          {.name = "--shared-memory,!--no-shared-memory",
           .help = "Sum through shared memory where all ranks of a stage are on one host"},
          options.shared_memory);
  Declare(app,
          {.name = "--host", .help = "Where the health service listens", .value = "ADDRESS"},
          options.host);
  Declare(app,
          {.name = "--health-port",
           .help = "The health service; the rank's number on its host is added; 0: any free one",
           .range = flags::kPorts},
          raw.health_port);
  Declare(app,
          {.name = "--communicator",
           .help = "How ranks reach each other; null: one rank alone",
           .choices = kCommunicators,
           .otherwise = "mpi under mpirun, else null"},
          raw.communicator);
  Declare(app, flags::kDevice, options.device);
  Declare(app, flags::kComm, raw.comm);
  Declare(app, flags::kDeterministic, options.deterministic);
  flags::DeclareSeconds(app, flags::kCommTimeout, options.comm_timeout);
  flags::DeclareSeconds(app,
                        {.name = "--join-timeout",
                         .help = "How long to wait for the coordinator to be there",
                         .range = flags::kTimeouts},
                        options.join_timeout);
  flags::DeclareSeconds(app,
                        {.name = "--rejoin-timeout",
                         .help = "How long a group that serves keeps its weights and waits when the "
                                 "coordinator is lost; 0: it ends",
                         .range = flags::kWaits},
                        options.rejoin_timeout);
  Declare(app,
          {.name = "--describe",
           .help = "Write the model's description (a serialized tessera.v1.ModelDescription) to "
                   "the standard output and exit",
           .environment = false},
          options.describe);
  app.set_version_flag("--version", "tessera-worker " TESSERA_VERSION);
}

absl::Status CheckCoordinator(const std::string& address) {
  int port = 0;
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--coordinator is '", address, "'; expected HOST:PORT with a port of 1 .. 65535"));
  }
  return absl::OkStatus();
}

absl::Status Resolve(const RawFlags& raw, WorkerOptions& options) {
  if (options.model.empty()) {
    return absl::InvalidArgumentError("--model is missing; expected a GGUF file or a folder");
  }
  auto format = ParseLoadFormat(raw.load_format);
  if (!format.ok()) return absl::InvalidArgumentError(
      absl::StrCat("--load-format: ", format.status().message()));
  options.load_format = *format;
  auto quantization = ParseQuantization(raw.quantization);
  if (!quantization.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--", quantization.status().message()));
  }
  options.quantization = *quantization;
  if (options.describe) return absl::OkStatus();

  if (absl::Status status = CheckCoordinator(options.coordinator); !status.ok()) return status;
  const Placement& placement = options.placement;
  if (raw.health_port > 0) {
    options.health_port = raw.health_port + placement.local_rank;
    if (options.health_port > 65535) {
      return absl::InvalidArgumentError(
          absl::StrCat("--health-port ", raw.health_port, " + local rank ", placement.local_rank,
                       " is past 65535"));
    }
  }
  const bool mpi = raw.communicator.empty() ? placement.by_mpirun : raw.communicator == "mpi";
  auto comm = ParseLinkPreference(raw.comm);
  if (!comm.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--comm: ", comm.status().message()));
  }
  options.comm = *comm;
  options.communicator = mpi ? CommunicatorKind::kMpi : CommunicatorKind::kNull;
  return absl::OkStatus();
}

int Refuse(absl::string_view message) {
  std::cerr << absl::StrCat("tessera-worker: ", message, " (see tessera-worker --help)\n");
  return kUsageError;
}

}  // namespace

Placement PlacementFromEnvironment() {
  Placement placement;
  placement.by_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  placement.local_rank = std::max(0, EnvironmentInt("OMPI_COMM_WORLD_LOCAL_RANK", 0));
  placement.local_size = std::max(1, EnvironmentInt("OMPI_COMM_WORLD_LOCAL_SIZE", 1));
  return placement;
}

void LookAtFlags(const std::function<void(const CLI::App&)>& look) {
  WorkerOptions options;
  RawFlags raw;
  CLI::App app(kPurpose, "tessera-worker");
  DeclareFlags(app, options, raw);
  look(app);
}

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  parsed.options.placement = PlacementFromEnvironment();
  RawFlags raw;
  CLI::App app(kPurpose, "tessera-worker");
  flags::UsePlainHelp(app);
  DeclareFlags(app, parsed.options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    parsed.exit_code = app.exit(request);
    return parsed;
  } catch (const CLI::ExtrasError&) {
    parsed.exit_code = Refuse(absl::StrCat("unknown flag ", app.remaining().empty()
                                                                ? "" : app.remaining().front()));
    return parsed;
  } catch (const CLI::ParseError& mistake) {
    parsed.exit_code = Refuse(flags::MistakeText(mistake));
    return parsed;
  }
  if (absl::Status status = Resolve(raw, parsed.options); !status.ok()) {
    parsed.exit_code = Refuse(status.message());
  }
  return parsed;
}

}  // namespace tessera::worker
