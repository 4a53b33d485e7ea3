// A whole file as text.
#ifndef TESSERA_BENCHMARKS_SERVING_READ_FILE_H_
#define TESSERA_BENCHMARKS_SERVING_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace tessera::benchmarks {

// NOT_FOUND where it cannot be read: no such file, no permission, a directory.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_READ_FILE_H_
