#include "coordinator/cli/interrupts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"

namespace tessera::coordinator {
namespace {

// A signal handler may touch little more than this.
int g_pipe[2] = {-1, -1};
struct sigaction g_old_int, g_old_term;

void OnSignal(int /*number*/) {
  const int saved = errno;
  const char byte = 0;
  // A full pipe already says what this byte would.
  [[maybe_unused]] const ssize_t written = write(g_pipe[1], &byte, 1);
  errno = saved;
}

int Millis(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1))));
}

}  // namespace

Interrupts::Interrupts() {
  if (pipe2(g_pipe, O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &g_old_int);
  sigaction(SIGTERM, &action, &g_old_term);
}

Interrupts::~Interrupts() {
  sigaction(SIGINT, &g_old_int, nullptr);
  sigaction(SIGTERM, &g_old_term, nullptr);
  close(g_pipe[0]);
  close(g_pipe[1]);
}

int Interrupts::fd() const { return g_pipe[0]; }

bool Interrupts::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    char byte;
    if (read(g_pipe[0], &byte, 1) == 1) return true;
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    pollfd waiting{g_pipe[0], POLLIN, 0};
    poll(&waiting, 1, Millis(left));
  }
}

InterruptCallback::InterruptCallback(Interrupts& interrupts, std::function<void()> callback)
    : stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  thread_ = std::thread([this, &interrupts, callback = std::move(callback)] {
    for (;;) {
      std::array<pollfd, 2> fds = {pollfd{interrupts.fd(), POLLIN, 0}, pollfd{stop_fd_, POLLIN, 0}};
      if (poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[1].revents != 0) return;
      if (interrupts.Wait(absl::ZeroDuration())) callback();
    }
  });
}

InterruptCallback::~InterruptCallback() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd_, &one, sizeof(one));
  thread_.join();
  close(stop_fd_);
}

}  // namespace tessera::coordinator
