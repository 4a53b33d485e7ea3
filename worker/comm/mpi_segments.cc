#include "worker/comm/mpi_segments.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

constexpr const char* kFolderParameter = "OMPI_MCA_btl_vader_backing_directory";
constexpr const char* kUsualFolder = "/dev/shm";
constexpr int64_t kUsualSegmentBytes = 4 << 20;
constexpr int64_t kSegmentHeadBytes = 4096;
// Per segment: what its owner writes before the other ranks have looked for room.
constexpr int64_t kEarlyBytes = 256 << 10;
// What mpirun itself puts into its folder, before or after the ranks look there.
constexpr int64_t kSessionBytes = 10 << 20;

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int EnvironmentInt(const char* name) {
  int value = 0;
  return absl::SimpleAtoi(Environment(name), &value) ? value : 0;
}

std::string Megabytes(int64_t bytes) { return absl::StrFormat("%.1f MB", bytes / 1e6); }

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "this host";
  return name.data();
}

Folder LookAt(const std::string& path) {
  struct statvfs found {};
  if (access(path.c_str(), W_OK) != 0 || statvfs(path.c_str(), &found) != 0) return {path, 0};
  return {path, static_cast<int64_t>(found.f_bavail * found.f_frsize)};
}

std::string Has(const Folder& folder) {
  return absl::StrCat(folder.path, " of ", HostName(), " has ", Megabytes(folder.free_bytes),
                      " free");
}

// Whether the user has chosen transports without this one.
bool UsesSegments() {
  const std::string transports = Environment("OMPI_MCA_btl");
  const std::string above = Environment("OMPI_MCA_pml");
  if (!above.empty() && !absl::StartsWith(above, "^") && !absl::StrContains(above, "ob1")) {
    return false;
  }
  if (transports.empty()) return true;
  return absl::StrContains(transports, "vader") != absl::StartsWith(transports, "^");
}

std::string OwnSegment(int node_rank) {
  const std::string suffix = absl::StrCat(".", node_rank);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    const size_t path_begin = line.find('/');
    if (path_begin == std::string::npos) continue;
    std::string path = line.substr(path_begin);
    if (absl::StrContains(path, "/vader_segment.") && absl::EndsWith(path, suffix)) return path;
  }
  return "";
}

}  // namespace

absl::StatusOr<SegmentPlace> ChoosePlace(int ranks, int64_t bytes, const Folder& usual,
                                         const std::optional<Folder>& other) {
  const int64_t wanted = ranks * (bytes + kSegmentHeadBytes + kEarlyBytes);
  if (usual.free_bytes >= wanted) return SegmentPlace{usual.path, ""};
  const std::string want =
      absl::StrCat(ranks, " ranks want ", Megabytes(wanted), " for their messages");
  if (other && other->free_bytes >= wanted) {
    return SegmentPlace{other->path,
                        absl::StrCat(Has(usual), ", ", want, ": they go through files in ",
                                     other->path, "; shared memory would be faster (docker run ",
                                     "--shm-size=1g)")};
  }
  std::string has = Has(usual);
  if (other) {
    absl::StrAppend(&has, " and ", other->path, " ", Megabytes(other->free_bytes),
                    " beyond what mpirun takes");
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(has, "; ", want, " (docker run --shm-size=1g)"));
}

absl::StatusOr<std::string> PlaceSegments() {
  const int ranks = EnvironmentInt("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks < 2 || !UsesSegments()) return "";
  const int set_bytes = EnvironmentInt("OMPI_MCA_btl_vader_segment_size");
  const int64_t bytes = set_bytes > 0 ? set_bytes : kUsualSegmentBytes;
  const std::string chosen = Environment(kFolderParameter);
  if (!chosen.empty()) {
    TESSERA_RETURN_IF_ERROR(ChoosePlace(ranks, bytes, LookAt(chosen), std::nullopt).status());
    return "";
  }
  const Folder usual = LookAt(kUsualFolder);
  std::optional<Folder> other;
  const std::string session = Environment("PMIX_SERVER_TMPDIR");
  if (!session.empty()) {
    other = LookAt(session);
    other->free_bytes = std::max<int64_t>(0, other->free_bytes - kSessionBytes);
  }
  TESSERA_ASSIGN_OR_RETURN(const SegmentPlace place, ChoosePlace(ranks, bytes, usual, other));
  if (place.path != usual.path) setenv(kFolderParameter, place.path.c_str(), 1);
  return EnvironmentInt("OMPI_COMM_WORLD_LOCAL_RANK") == 0 ? place.note : "";
}

absl::Status ReserveOwnSegment(int node_rank) {
  const std::string path = OwnSegment(node_rank);
  if (path.empty()) return absl::OkStatus();
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return absl::OkStatus();
  struct stat found {};
  int error = 0;
  if (fstat(file, &found) == 0) {
    // Not posix_fallocate, which writes where the file system cannot do it.
    while (fallocate(file, 0, 0, found.st_size) != 0 && (error = errno) == EINTR) error = 0;
  }
  close(file);
  if (error != ENOSPC && error != EDQUOT) return absl::OkStatus();
  const Folder folder = LookAt(std::filesystem::path(path).parent_path());
  return absl::ResourceExhaustedError(absl::StrCat(
      Has(folder), ", each rank needs ", Megabytes(found.st_size),
      " for its messages: ", strerror(error), " (docker run --shm-size=1g)"));
}

std::string UnlinkOwnSegment(int node_rank) {
  const std::string path = OwnSegment(node_rank);
  // Failure is no worse than not having tried: mpirun removes the file if it outlives us.
  return !path.empty() && unlink(path.c_str()) == 0 ? path : "";
}

void RestoreSegmentName(const std::string& path) {
  if (path.empty()) return;
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
}

}  // namespace tessera::worker
