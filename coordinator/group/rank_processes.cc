#include "coordinator/group/rank_processes.h"

#include <signal.h>

#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tessera::coordinator {
namespace {

// Of /proc/<pid>/stat, counted after the command, which ends in ')'.
constexpr size_t kStateField = 0;
constexpr size_t kParentField = 1;
constexpr size_t kStartTimeField = 19;

// Empty when there is no such process, or only its zombie.
std::vector<std::string> StatFields(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  // getline, since a read of a process that ends meanwhile is an error (ESRCH), which an
  // istreambuf_iterator would throw.
  std::string text;
  std::getline(file, text, '\0');
  const size_t command_end = text.rfind(") ");
  if (command_end == std::string::npos) return {};
  std::vector<std::string> fields = absl::StrSplit(text.substr(command_end + 2), ' ');
  if (fields.size() <= kStartTimeField || fields[kStateField] == "Z") return {};
  return fields;
}

std::string StartTime(int pid) {
  const std::vector<std::string> fields = StatFields(pid);
  return fields.empty() ? "" : fields[kStartTimeField];
}

int Parent(int pid) {
  const std::vector<std::string> fields = StatFields(pid);
  int parent = 0;
  return !fields.empty() && absl::SimpleAtoi(fields[kParentField], &parent) ? parent : 0;
}

bool Descends(int pid, int ancestor) {
  for (pid = Parent(pid); pid > 1; pid = Parent(pid)) {
    if (pid == ancestor) return true;
  }
  return false;
}

}  // namespace

void RankProcesses::Add(int pid, int ancestor) {
  if (pid <= 1 || !Descends(pid, ancestor)) return;
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
