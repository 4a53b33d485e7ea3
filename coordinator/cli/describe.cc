#include "coordinator/cli/describe.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/plan/shard_planner.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_description.h"

namespace tessera::coordinator {
namespace {

constexpr char kWorkerName[] = "tessera-worker";

struct Finished {
  int wait_status = 0;
  std::string out;
  std::string err;
};

// Reads both pipes to their ends; each is closed.
void ReadBoth(int out_fd, int err_fd, Finished& finished) {
  std::array<pollfd, 2> fds = {pollfd{out_fd, POLLIN, 0}, pollfd{err_fd, POLLIN, 0}};
  const std::array<std::string*, 2> texts = {&finished.out, &finished.err};
  std::array<char, 1 << 16> buffer;
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    poll(fds.data(), fds.size(), -1);
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      const ssize_t got = read(fds[i].fd, buffer.data(), buffer.size());
      if (got > 0) {
        texts[i]->append(buffer.data(), static_cast<size_t>(got));
      } else if (got == 0 || errno != EINTR) {
        close(std::exchange(fds[i].fd, -1));
      }
    }
  }
}

absl::StatusOr<Finished> Run(const std::vector<std::string>& command) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError("cannot make a pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& arg : command) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  Finished finished;
  ReadBoth(out[0], err[0], finished);
  if (error != 0) return absl::NotFoundError(absl::StrCat("cannot run ", command[0]));
  while (waitpid(pid, &finished.wait_status, 0) < 0 && errno == EINTR) continue;
  return finished;
}

// The worker's own line if it wrote one: the last, without its name in front.
std::string WhyItFailed(const Finished& finished) {
  absl::string_view text = absl::StripAsciiWhitespace(finished.err);
  const size_t line = text.rfind('\n');
  if (line != absl::string_view::npos) text.remove_prefix(line + 1);
  absl::ConsumePrefix(&text, absl::StrCat(kWorkerName, ": "));
  absl::ConsumePrefix(&text, "error: ");
  if (!text.empty()) return std::string(text);
  const int status = finished.wait_status;
  return WIFSIGNALED(status)
             ? absl::StrCat(kWorkerName, " was killed by signal ", WTERMSIG(status))
             : absl::StrCat(kWorkerName, " ended with exit status ", WEXITSTATUS(status));
}

}  // namespace

absl::StatusOr<std::string> WorkerProgram() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path worker = self.parent_path() / kWorkerName;
  if (!error && access(worker.c_str(), X_OK) == 0) return worker.string();
  return absl::NotFoundError(absl::StrCat("no program ", worker.string(),
                                          ": build the target tessera-worker beside tessera"));
}

absl::StatusOr<v1::ModelDescription> DescribeModel(const DescribeOptions& options) {
  TESSERA_ASSIGN_OR_RETURN(const std::string worker, WorkerProgram());
  std::vector<std::string> command = {worker, "--describe", "--model", options.model};
  if (!options.load_format.empty()) {
    command.insert(command.end(), {"--load-format", options.load_format});
  }
  if (!options.quantization.empty()) {
    command.insert(command.end(), {"--quantization", options.quantization});
  }
  TESSERA_ASSIGN_OR_RETURN(const Finished finished, Run(command));
  if (finished.wait_status != 0) return absl::InvalidArgumentError(WhyItFailed(finished));
  v1::ModelDescription model;
  if (!model.ParseFromString(finished.out)) {
    return absl::InternalError(absl::StrCat(kWorkerName, " --describe wrote ", finished.out.size(),
                                            " bytes that are no model description"));
  }
  TESSERA_RETURN_IF_ERROR(model::CheckDescription(model));
  return model;
}

}  // namespace tessera::coordinator
