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

constexpr size_t kStartTimeField = 19;  // counted after the command, which ends in ')'

// Empty when there is no such process.
std::string StartTime(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t command_end = text.rfind(") ");
  if (command_end == std::string::npos) return "";
  const std::vector<std::string> fields = absl::StrSplit(text.substr(command_end + 2), ' ');
  return fields.size() > kStartTimeField ? fields[kStartTimeField] : "";
}

}  // namespace

void RankProcesses::Add(int pid) {
  if (pid <= 1 || pid == getpid() || kill(pid, 0) != 0) return;
  const std::string start_time = StartTime(pid);
  if (!start_time.empty()) start_times_[pid] = start_time;
}

void RankProcesses::Kill() const {
  for (const auto& [pid, start_time] : start_times_) {
    if (StartTime(pid) == start_time) kill(pid, SIGKILL);
  }
}

}  // namespace tessera::coordinator
