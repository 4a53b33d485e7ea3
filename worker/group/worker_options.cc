#include "worker/group/worker_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tessera::worker {
namespace {

constexpr int kUsageError = 2;

// What the flags hold before they are resolved against each other and the placement.
struct RawFlags {
  std::string load_format = "auto";
  std::string quantization;
  int health_port = 0;
  std::string communicator;
  std::string comm = "auto";
  double comm_timeout_seconds = 60;
  double join_timeout_seconds = 30;
};

int EnvironmentInt(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  int value = 0;
  return text && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

void DeclareFlags(CLI::App& app, WorkerOptions& options, RawFlags& raw) {
  app.add_option("--model", options.model, "GGUF file, or Hugging Face folder")
      ->envname("TESSERA_MODEL");
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of the coordinator's cluster port")
      ->envname("TESSERA_COORDINATOR");
  app.add_option("--load-format", raw.load_format, "auto, gguf, safetensors or dummy")
      ->envname("TESSERA_LOAD_FORMAT")
      ->capture_default_str();
  app.add_option("--quantization", raw.quantization,
                 "fp8: weights of F32, F16 or BF16 are rounded to 8-bit floats (E4M3, a scale for "
                 "each row) while they are loaded; GPUs only (default: as the file has them)")
      ->envname("TESSERA_QUANTIZATION");
  app.add_option("--threads-per-rank", options.threads,
                 "Compute threads of each rank; 0: the cores of its host shared among those of its\n"
                 "ranks that compute at the same time")
      ->envname("TESSERA_THREADS_PER_RANK")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--instruction-set", options.instruction_set,
                 "Of the CPU: auto, or a lesser one for tests: scalar, avx2, avx512")
      ->envname("TESSERA_INSTRUCTION_SET")
      ->capture_default_str();
  app.add_flag("--shared-memory,!--no-shared-memory", options.shared_memory,
               "Sum through shared memory where all ranks of a stage are on one host (default: on)")
      ->envname("TESSERA_SHARED_MEMORY");
  app.add_option("--host", options.host, "Address that the health service listens on")
      ->envname("TESSERA_HOST")
      ->capture_default_str();
  app.add_option("--health-port", raw.health_port,
                 "Port of the health service, the rank's number on its host added; 0: any free one")
      ->envname("TESSERA_HEALTH_PORT")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--communicator", raw.communicator,
                 "mpi or null (one rank alone); default: mpi under mpirun, else null")
      ->envname("TESSERA_COMMUNICATOR")
      ->check(CLI::IsMember({"mpi", "null"}));
  app.add_option("--device", options.device,
                 "cpu, cuda (each rank the GPU of its number on its host), or auto: cuda where there "
                 "is one")
      ->envname("TESSERA_DEVICE")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--comm", raw.comm,
                 "How ranks exchange activations: nccl (a GPU for each), mpi (through host memory; "
                 "ranks may share a GPU), or auto: nccl where it can")
      ->envname("TESSERA_COMM")
      ->check(CLI::IsMember({"auto", "mpi", "nccl"}))
      ->capture_default_str();
  app.add_flag("--deterministic", options.deterministic,
               "On GPUs: the same tokens whatever else a step computes, at some cost (always so "
               "on cpu)")
      ->envname("TESSERA_DETERMINISTIC");
  app.add_option("--comm-timeout", raw.comm_timeout_seconds,
                 "Seconds without a sign of life from a rank, however long it computes, that end "
                 "the group")
      ->envname("TESSERA_COMM_TIMEOUT")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_option("--join-timeout", raw.join_timeout_seconds,
                 "Seconds to wait for the coordinator to be there")
      ->envname("TESSERA_JOIN_TIMEOUT")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_flag("--describe", options.describe,
               "Write the model's description (a serialized tessera.v1.ModelDescription) to the "
               "standard output and exit");
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
  // CLI11's ranges let NaN through.
  if (std::isnan(raw.comm_timeout_seconds) || std::isnan(raw.join_timeout_seconds)) {
    return absl::InvalidArgumentError("--comm-timeout and --join-timeout: expected 0.1 .. 86400");
  }
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
  options.comm_timeout = absl::Seconds(raw.comm_timeout_seconds);
  options.join_timeout = absl::Seconds(raw.join_timeout_seconds);
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

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  parsed.options.placement = PlacementFromEnvironment();
  RawFlags raw;
  CLI::App app(
      "One rank of a Tessera worker group.\n"
      "  mpirun -n 4 tessera-worker --coordinator HOST:PORT --model PATH");
  app.name("tessera-worker");
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
    parsed.exit_code = Refuse(mistake.what());
    return parsed;
  }
  if (absl::Status status = Resolve(raw, parsed.options); !status.ok()) {
    parsed.exit_code = Refuse(status.message());
  }
  return parsed;
}

}  // namespace tessera::worker
