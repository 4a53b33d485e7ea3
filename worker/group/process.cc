#include "worker/group/process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace tessera::worker {
namespace {

sigset_t EndSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

int64_t NumberBehind(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t:"), absl::SkipEmpty());
    int64_t number = 0;
    if (words.size() >= 2 && words[0] == key && absl::SimpleAtoi(words[1], &number)) return number;
  }
  return 0;
}

MemoryUse ReadMemoryUse() {
  constexpr int64_t kKilobyte = 1024;
  return {.resident_bytes = NumberBehind("/proc/self/status", "VmRSS") * kKilobyte,
          .peak_bytes = NumberBehind("/proc/self/status", "VmHWM") * kKilobyte};
}

void ResetPeakMemory() { std::ofstream("/proc/self/clear_refs") << "5"; }

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

void DieWithParent(int parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) ExitNow(1);
}

void BlockEndSignals() {
  const sigset_t set = EndSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void HandleEndSignals(std::function<void(int number)> on_signal) {
  std::thread([on_signal = std::move(on_signal)] {
    const sigset_t set = EndSignals();
    for (;;) {
      int number = 0;
      if (sigwait(&set, &number) == 0) on_signal(number);
    }
  }).detach();
}

void PrintLine(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  // Nothing can be done when nobody reads stderr any more.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

void ExitNow(int code) { _exit(code); }

void ExitUnlessDoneWithin(absl::Duration delay) {
  std::thread([delay] {
    absl::SleepFor(delay);
    ExitNow(1);
  }).detach();
}

}  // namespace tessera::worker
