// Text that a command was given as a file or on its standard input.
//
//   TESSERA_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.file));
#ifndef TESSERA_COORDINATOR_CLI_INPUT_H_
#define TESSERA_COORDINATOR_CLI_INPUT_H_

#include <string>

#include "absl/status/statusor.h"

namespace tessera::coordinator {

// All of it, as bytes. INVALID_ARGUMENT where it cannot be read to its end: no such file, no
// permission, a directory.
absl::StatusOr<std::string> ReadFile(const std::string& path);
absl::StatusOr<std::string> ReadStandardInput();

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_INPUT_H_
