#include "worker/comm/mpi_segments.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tessera::worker {

std::string UnlinkOwnSegment(int node_rank) {
  const std::string suffix = absl::StrCat(".", node_rank);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    const size_t path_begin = line.find('/');
    if (path_begin == std::string::npos) continue;
    std::string path = line.substr(path_begin);
    if (!absl::StrContains(path, "/vader_segment.") || !absl::EndsWith(path, suffix)) continue;
    // Failure is no worse than not having tried: mpirun removes the file if it outlives us.
    if (unlink(path.c_str()) == 0) return path;
  }
  return "";
}

void RestoreSegmentName(const std::string& path) {
  if (path.empty()) return;
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
}

}  // namespace tessera::worker
