#include "coordinator/group/mpi_leftovers.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace tessera::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kPrefix = "tessera-mpi.";
constexpr const char* kPidFile = "mpirun.pid";

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "";
  return name.data();
}

void RemoveSegmentsOfHost(const std::string& host, int mpirun_pid) {
  const uint32_t job = OpenMpiJobId(host, mpirun_pid);
  const std::string mine = absl::StrFormat(".%u.%x.", geteuid(), job);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "vader_segment.") && absl::StrContains(name, mine)) {
      unlink(entry.path().c_str());
    }
  }
}

void RemoveSegments(int mpirun_pid) {
  const std::string host = HostName();
  RemoveSegmentsOfHost(host, mpirun_pid);
  const std::string short_host = host.substr(0, host.find('.'));  // Open MPI drops the domain
  if (short_host != host) RemoveSegmentsOfHost(short_host, mpirun_pid);
}

// Named tessera-mpi.<pid of the coordinator>.<random>.
void RemoveWhatTheDeadLeft(const fs::path& parent) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename();
    if (!absl::StartsWith(name, kPrefix)) continue;
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    int pid = 0;
    if (parts.size() < 3 || !absl::SimpleAtoi(parts[1], &pid) || pid <= 0) continue;
    if (kill(pid, 0) == 0 || errno != ESRCH) continue;
    int mpirun_pid = 0;
    std::ifstream(entry.path() / kPidFile) >> mpirun_pid;
    if (mpirun_pid > 0 && kill(mpirun_pid, 0) != 0) RemoveSegments(mpirun_pid);
    std::error_code ignored;  // another user's, or gone already
    fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace

uint32_t OpenMpiJobId(const std::string& host, int mpirun_pid) {
  // Bob Jenkins' one-at-a-time hash of the host's name, mixed with the pid and folded to 16 bits:
  // the job family. Its first job is number 1.
  uint32_t hash = 0;
  for (const char c : host) {
    hash += static_cast<uint32_t>(c);
    hash += hash << 10;
    hash ^= hash >> 6;
  }
  hash += hash << 3;
  hash ^= hash >> 11;
  hash += hash << 15;
  hash ^= static_cast<uint32_t>(mpirun_pid);
  const uint32_t family = (hash >> 16) ^ (hash & 0xffff);
  return (family << 16) | 1;
}

absl::StatusOr<MpiLeftovers> MpiLeftovers::MakeSessionDir() {
  const char* tmpdir = getenv("TMPDIR");
  const fs::path parent = tmpdir && *tmpdir ? tmpdir : "/tmp";
  RemoveWhatTheDeadLeft(parent);
  std::string path = (parent / absl::StrCat(kPrefix, getpid(), ".XXXXXX").c_str()).string();
  if (mkdtemp(path.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot make a folder for the MPI job's files in ",
                                               parent.string(), ": ", strerror(errno)));
  }
  return MpiLeftovers(path);
}

void MpiLeftovers::Remember(int mpirun_pid) const {
  std::ofstream(fs::path(session_dir_) / kPidFile) << mpirun_pid << "\n";
}

void MpiLeftovers::Remove(int mpirun_pid) const {
  RemoveSegments(mpirun_pid);
  std::error_code error;
  fs::remove_all(session_dir_, error);
}

}  // namespace tessera::coordinator
