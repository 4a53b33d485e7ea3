#include <google/protobuf/stubs/logging.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "coordinator/cli/app.h"

int main(int argc, char** argv) {
  // gRPC's own log lines would stand between ours; every failure it has comes back as a status.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // Nor protobuf's, one for every message that a peer garbles.
  google::protobuf::SetLogHandler(nullptr);
  return tessera::coordinator::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc));
}
