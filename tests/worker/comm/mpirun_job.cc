#include "tests/worker/comm/mpirun_job.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tessera::worker {
namespace {

constexpr int kSilenceMs = 60'000;

bool IsAlive(pid_t process) {
  std::ifstream status(absl::StrCat("/proc/", process, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "State:")) return !absl::StrContains(line, "Z");
  }
  return false;
}

std::string MakeDirectory() {
  std::string directory = std::filesystem::temp_directory_path() / "mpirun_job.XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) std::abort();
  return directory;
}

}  // namespace

MpirunJob::MpirunJob(const std::string& program, const std::string& mode, int size)
    : size_(static_cast<size_t>(size)), session_directory_(MakeDirectory()) {
  std::vector<std::string> words = absl::StrSplit(TESSERA_MPIRUN, '|');
  words.insert(words.end(), {"-n", absl::StrCat(size), program, mode});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  int ends[2];
  if (pipe(ends) != 0) std::abort();
  mpirun_ = fork();
  if (mpirun_ < 0) std::abort();
  if (mpirun_ == 0) {
    setenv("TMPDIR", session_directory_.c_str(), 1);
    setenv("PMIX_MCA_gds", "hash", 1);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execvp(arguments[0], arguments.data());
    std::perror("execvp mpirun");
    _exit(127);
  }
  close(ends[1]);
  output_fd_ = ends[0];
}

MpirunJob::~MpirunJob() {
  for (pid_t process : ranks_) {
    if (IsAlive(process)) kill(process, SIGKILL);
  }
  if (!reaped_) {
    kill(mpirun_, SIGKILL);
    waitpid(mpirun_, nullptr, 0);
  }
  close(output_fd_);
  std::error_code ignored;
  std::filesystem::remove_all(session_directory_, ignored);
}

bool MpirunJob::WaitUntilReady() {
  while (ranks_.size() < size_) {
    if (!ReadSome()) return false;
  }
  return true;
}

int MpirunJob::WaitForExit() {
  while (ReadSome()) {
  }
  int status = 0;
  waitpid(mpirun_, &status, 0);
  reaped_ = true;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::vector<std::string> MpirunJob::Remains() const {
  std::vector<std::string> remains;
  if (!reaped_ && IsAlive(mpirun_)) remains.push_back(absl::StrCat("mpirun ", mpirun_));
  for (pid_t process : ranks_) {
    if (IsAlive(process)) remains.push_back(absl::StrCat("process ", process));
  }
  for (const std::string& segment : segments_) {
    if (std::filesystem::exists(segment)) remains.push_back(segment);
  }
  return remains;
}

bool MpirunJob::ReadSome() {
  pollfd readable{output_fd_, POLLIN, 0};
  if (poll(&readable, 1, kSilenceMs) <= 0) return false;
  char buffer[4096];
  const ssize_t count = read(output_fd_, buffer, sizeof(buffer));
  if (count <= 0) return false;
  output_.append(buffer, static_cast<size_t>(count));
  size_t line_end;
  while ((line_end = output_.find('\n', parsed_)) != std::string::npos) {
    TakeLine(output_.substr(parsed_, line_end - parsed_));
    parsed_ = line_end + 1;
  }
  return true;
}

void MpirunJob::TakeLine(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  if (words.size() != 2) return;
  if (words[0] == "segment") segments_.insert(words[1]);
  pid_t process = 0;
  if (words[0] == "ready" && absl::SimpleAtoi(words[1], &process)) ranks_.push_back(process);
}

}  // namespace tessera::worker
