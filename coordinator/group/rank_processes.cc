#include "coordinator/group/rank_processes.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tessera::coordinator {
namespace {

// Of /proc/<pid>/stat, counted after the command, which ends in ')'.
constexpr size_t kStateField = 0;
constexpr size_t kStartTimeField = 19;

// Empty when there is no such process, or only its zombie.
std::string StartTime(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t command_end = text.rfind(") ");
  if (command_end == std::string::npos) return "";
  const std::vector<std::string> fields = absl::StrSplit(text.substr(command_end + 2), ' ');
  if (fields.size() <= kStartTimeField || fields[kStateField] == "Z") return "";
  return fields[kStartTimeField];
}

}  // namespace

void RankProcesses::Add(int pid) {
  if (pid <= 1 || pid == getpid() || kill(pid, 0) != 0) return;
  const std::string start_time = StartTime(pid);
  if (!start_time.empty()) start_times_[pid] = start_time;
}

bool RankProcesses::AnyGone() const {
  for (const auto& [pid, start_time] : start_times_) {
    if (StartTime(pid) != start_time) return true;
  }
  return false;
}

void RankProcesses::Kill() const {
  for (const auto& [pid, start_time] : start_times_) {
    if (StartTime(pid) == start_time) kill(pid, SIGKILL);
  }
}

}  // namespace tessera::coordinator
