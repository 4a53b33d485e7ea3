#include "proto/base/startup_times.h"

#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_format.h"

namespace tessera {

void NoteStartup(absl::string_view point) {
  static const bool wanted = std::getenv("TESSERA_STARTUP_TIMES") != nullptr;
  if (!wanted) return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const std::string line =
      absl::StrFormat("startup %d.%06d %s\n", now.tv_sec, now.tv_nsec / 1000, point);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace tessera
