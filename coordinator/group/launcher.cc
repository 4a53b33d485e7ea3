#include "coordinator/group/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "coordinator/group/job_output.h"
#include "coordinator/group/mpi_leftovers.h"
#include "coordinator/group/rank_processes.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// How often the ranks are looked at, and mpirun itself where the kernel has no pidfd.
constexpr int kPollMillis = 200;
// From the first rank's end to mpirun's.
constexpr absl::Duration kEndLimit = absl::Seconds(1);

std::string Why(int error) { return strerror(error); }

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

// What the child of fork() needs, prepared before it: nothing may be allocated in between.
struct ChildPlan {
  std::vector<char*> argv;  // null-terminated
  int null_fd;
  int output_fd;
  int error_fd;  // close-on-exec: exec's errno, or end of file when it worked
  pid_t parent;
};

[[noreturn]] void RunChild(const ChildPlan& plan) {
  setpgid(0, 0);
  // Sent when the thread that forked ends: the job's thread lives as long as the job. SIGTERM would
  // be kinder, but leaves an mpirun that locks up with nobody to kill it.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != plan.parent) _exit(127);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGPIPE, SIGHUP}) signal(number, SIG_DFL);
  dup2(plan.null_fd, STDIN_FILENO);
  dup2(plan.output_fd, STDOUT_FILENO);
  dup2(plan.output_fd, STDERR_FILENO);
  syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  execvp(plan.argv[0], plan.argv.data());
  const int error = errno;
  if (write(plan.error_fd, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

class LauncherImpl : public Launcher {
 public:
  LauncherImpl(std::vector<std::string> command, MpiLeftovers leftovers, LineCallback on_line,
               ExitCallback on_exit)
      : command_(std::move(command)),
        leftovers_(std::move(leftovers)),
        on_line_(std::move(on_line)),
        on_exit_(std::move(on_exit)) {}

  ~LauncherImpl() override {
    Terminate(absl::Seconds(1));
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Begin() {
    absl::Notification started;
    absl::Status status;
    thread_ = std::thread([&, this] {
      status = Spawn();
      const bool ok = status.ok();
      started.Notify();  // `started` and `status` are gone after this
      if (ok) Run();
    });
    started.WaitForNotification();
    if (!status.ok()) {
      MutexLock lock(&mu_);
      ended_ = true;
      leftovers_.Remove(0);
    }
    return status;
  }

  int pid() const override { return pid_; }

  void AddRankPid(int pid) override {
    MutexLock lock(&mu_);
    ranks_.Add(pid, pid_);
  }

  void Terminate(absl::Duration grace) override {
    MutexLock lock(&mu_);
    if (ended_) return;
    if (!exited_) kill(pid_, SIGTERM);
    const absl::Time limit = absl::Now() + grace;
    while (!ended_ && !has_ended_.WaitWithDeadline(&mu_, limit)) {
    }
    if (ended_) return;
    if (!exited_) kill(-pid_, SIGKILL);
    ranks_.Kill();
    while (!ended_) has_ended_.Wait(&mu_);
  }

  absl::Status Wait() override {
    MutexLock lock(&mu_);
    while (!ended_) has_ended_.Wait(&mu_);
    return how_;
  }

  bool running() const override {
    MutexLock lock(&mu_);
    return !ended_;
  }

 private:
  absl::Status Spawn();
  void Run();
  void ReadUntilExit();
  bool ReadSome();  // false at the end of the output
  void KillIfOverdue();
  bool HasExited() const;

  const std::vector<std::string> command_;
  const MpiLeftovers leftovers_;
  const LineCallback on_line_;
  const ExitCallback on_exit_;

  std::thread thread_;
  pid_t pid_ = -1;  // set before Start returns
  Fd output_;       // the job's thread only, as is lines_
  JobOutput lines_;
  absl::Time first_end_ = absl::InfiniteFuture();  // of a rank, as noticed

  mutable Mutex mu_;
  CondVar has_ended_;
  RankProcesses ranks_ ABSL_GUARDED_BY(mu_);
  bool exited_ ABSL_GUARDED_BY(mu_) = false;  // reaped: pid_ may belong to another process now
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status how_ ABSL_GUARDED_BY(mu_);
};

absl::Status LauncherImpl::Spawn() {
  std::array<int, 2> output, failure;
  if (pipe2(output.data(), O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("pipe: ", Why(errno)));
  }
  output_.reset(output[0]);
  const Fd output_writer(output[1]);
  if (pipe2(failure.data(), O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("pipe: ", Why(errno)));
  }
  const Fd failure_reader(failure[0]);
  Fd failure_writer(failure[1]);
  const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));

  ChildPlan plan{.argv = {}, .null_fd = null.get(), .output_fd = output_writer.get(),
                 .error_fd = failure_writer.get(), .parent = getpid()};
  for (const std::string& arg : command_) plan.argv.push_back(const_cast<char*>(arg.c_str()));
  plan.argv.push_back(nullptr);

  pid_ = fork();
  if (pid_ == 0) RunChild(plan);
  if (pid_ < 0) return absl::ResourceExhaustedError(absl::StrCat("fork: ", Why(errno)));

  failure_writer.reset();
  int error = 0;
  ssize_t got;
  do {
    got = read(failure_reader.get(), &error, sizeof(error));
  } while (got < 0 && errno == EINTR);
  if (got == 0) {
    leftovers_.Remember(pid_);
    fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    return absl::OkStatus();
  }
  waitpid(pid_, nullptr, 0);
  if (error == ENOENT) {
    return absl::NotFoundError(absl::StrCat(
        command_[0], " not found; install Open MPI (openmpi-bin) or name it with its path"));
  }
  return absl::FailedPreconditionError(absl::StrCat(command_[0], " cannot be run: ", Why(error)));
}

void LauncherImpl::Run() {
  ReadUntilExit();
  int status = 0;
  {
    MutexLock lock(&mu_);
    // Not reaped yet, so the process group is still ours to kill.
    kill(-pid_, SIGKILL);
    waitpid(pid_, &status, 0);
    exited_ = true;
    ranks_.Kill();
  }
  lines_.Flush(on_line_);
  leftovers_.Remove(pid_);
  const absl::Status how = lines_.Explain(command_[0], status);
  if (on_exit_) on_exit_(how);
  MutexLock lock(&mu_);
  how_ = how;
  ended_ = true;
  has_ended_.SignalAll();
}

bool LauncherImpl::HasExited() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

// Not until the end of the output: a process that escaped may hold the pipe open.
void LauncherImpl::ReadUntilExit() {
  const Fd process(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  bool open = true;
  while (!HasExited()) {
    std::array<pollfd, 2> fds = {pollfd{open ? output_.get() : -1, POLLIN, 0},
                                 pollfd{process.get(), POLLIN, 0}};
    poll(fds.data(), fds.size(), kPollMillis);
    if (fds[0].revents != 0) open = ReadSome();
    KillIfOverdue();
  }
  if (open) ReadSome();
}

void LauncherImpl::KillIfOverdue() {
  MutexLock lock(&mu_);
  if (!ranks_.AnyGone()) return;
  const absl::Time now = absl::Now();
  first_end_ = std::min(first_end_, now);
  if (now - first_end_ >= kEndLimit) kill(-pid_, SIGKILL);
}

bool LauncherImpl::ReadSome() {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = read(output_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      lines_.Append(absl::string_view(buffer.data(), static_cast<size_t>(got)), on_line_);
    } else if (got == 0) {
      return false;
    } else if (errno != EINTR) {
      return errno == EAGAIN;
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Launcher>> Launcher::Start(const LaunchOptions& options,
                                                          LineCallback on_line,
                                                          ExitCallback on_exit) {
  if (options.world_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("world size is ", options.world_size, "; expected at least 1"));
  }
  TESSERA_ASSIGN_OR_RETURN(MpiLeftovers leftovers, MpiLeftovers::MakeSessionDir());
  auto command = LaunchCommand(options, leftovers.session_dir());
  auto launcher = std::make_unique<LauncherImpl>(std::move(command), std::move(leftovers),
                                                 std::move(on_line), std::move(on_exit));
  TESSERA_RETURN_IF_ERROR(launcher->Begin());
  return launcher;
}

}  // namespace tessera::coordinator
