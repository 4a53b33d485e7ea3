// tessera-worker: one rank of a worker group.
//
//   mpirun -n 4 tessera-worker --coordinator HOST:PORT --model PATH
//   tessera-worker --describe --model PATH > description.pb
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "worker/files/model_file.h"
#include "worker/group/process.h"
#include "worker/group/rank_lifecycle.h"
#include "worker/group/worker_options.h"

namespace {

using tessera::worker::ExitNow;

int Describe(const tessera::worker::WorkerOptions& options) {
  auto file = tessera::worker::OpenModel(options.model, options.load_format, options.quantization);
  if (!file.ok()) {
    tessera::worker::PrintLine(absl::StrCat("tessera-worker: ", file.status().message()));
    return 1;
  }
  if (!(*file)->description().SerializeToOstream(&std::cout) || !std::cout.flush()) {
    tessera::worker::PrintLine("tessera-worker: cannot write to the standard output");
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int parent = getppid();
  // Our own lines say what went wrong; gRPC's would repeat it, in its words.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const auto parsed = tessera::worker::ParseCommandLine(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  if (parsed.options.describe) return Describe(parsed.options);

  if (parsed.options.placement.by_mpirun) tessera::worker::DieWithParent(parent);
  tessera::worker::BlockEndSignals();
  // Never destroyed: other threads use it until the process ends.
  auto* life = new tessera::worker::RankLifecycle(parsed.options);
  tessera::worker::HandleEndSignals([life](int number) { life->OnSignal(number); });
  ExitNow(life->Run());
}
