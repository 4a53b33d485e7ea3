// Asking tessera-worker what a model is. The coordinator's side opens no model file itself.
//
//   TESSERA_ASSIGN_OR_RETURN(v1::ModelDescription model, DescribeModel({.model = path}));
#ifndef TESSERA_COORDINATOR_CLI_DESCRIBE_H_
#define TESSERA_COORDINATOR_CLI_DESCRIBE_H_

#include <string>

#include "absl/status/statusor.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

// tessera-worker beside this program, or NOT_FOUND.
absl::StatusOr<std::string> WorkerProgram();

struct DescribeOptions {
  std::string model;
  std::string load_format = {};   // empty: the worker's default
  std::string quantization = {};  // empty: as the file has the weights
};

// Runs `tessera-worker --describe`. An error is the worker's own line.
absl::StatusOr<v1::ModelDescription> DescribeModel(const DescribeOptions& options);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_DESCRIBE_H_
