// The command line of tessera-worker, each flag also as TESSERA_... in the environment.
//
//   auto parsed = ParseCommandLine(argc, argv);
//   if (parsed.exit_code) return *parsed.exit_code;   // --help, --version, or a mistake, printed
#ifndef TESSERA_WORKER_GROUP_WORKER_OPTIONS_H_
#define TESSERA_WORKER_GROUP_WORKER_OPTIONS_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "worker/engine/link_choice.h"
#include "worker/files/model_file.h"

namespace CLI {
class App;
}

namespace tessera::worker {

// Where this process stands on its host, as its launcher says (mpirun's environment).
struct Placement {
  bool by_mpirun = false;
  int local_rank = 0;
  int local_size = 1;
};

enum class CommunicatorKind { kMpi, kNull };

struct WorkerOptions {
  std::string model;
  std::string coordinator;  // HOST:PORT
  std::string group_id;           // empty: one that no other group has
  std::string served_model_name;  // empty: as the coordinator says
  LoadFormat load_format = LoadFormat::kAuto;
  Quantization quantization = Quantization::kAsStored;
  int threads = 0;  // of each rank; 0: its share of its host's cores (CoreShares)
  std::string instruction_set = "auto";  // of the cpu device
  bool shared_memory = true;             // between ranks of one host
  std::string host = "127.0.0.1";  // the health service listens here
  int health_port = 0;             // of this rank, local rank added; 0: chosen by the system
  CommunicatorKind communicator = CommunicatorKind::kNull;
  std::string device = "auto";  // or "cpu", "cuda"
  LinkPreference comm = LinkPreference::kAuto;  // how devices exchange activations
  bool deterministic = false;
  absl::Duration comm_timeout = absl::Seconds(60);
  absl::Duration join_timeout = absl::Seconds(30);
  absl::Duration rejoin_timeout = absl::Minutes(2);
  bool describe = false;
  Placement placement;
};

struct ParsedCommandLine {
  std::optional<int> exit_code;  // set: there is nothing (more) to do
  WorkerOptions options;
};

Placement PlacementFromEnvironment();

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

// Shows the declared flags, as ParseCommandLine reads them (deploy/flags.md is made of them).
void LookAtFlags(const std::function<void(const CLI::App&)>& look);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_WORKER_OPTIONS_H_
