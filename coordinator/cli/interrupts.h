// Ctrl-C and SIGTERM as events instead of sudden death. One object per process at a time.
//
//   Interrupts interrupts;
//   if (interrupts.Wait(absl::Milliseconds(100))) ...   // one signal, taken
//
//   InterruptCallback on_ctrl_c(interrupts, [&] { client->Cancel(); });   // for blocking calls
#ifndef TESSERA_COORDINATOR_CLI_INTERRUPTS_H_
#define TESSERA_COORDINATOR_CLI_INTERRUPTS_H_

#include <functional>
#include <thread>

#include "absl/time/time.h"

namespace tessera::coordinator {

class Interrupts {
 public:
  // Handles SIGINT and SIGTERM until destroyed. Blocking calls of other kinds return EINTR.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // True when a signal came within `timeout`; it is taken from the queue.
  bool Wait(absl::Duration timeout);
  int fd() const;  // readable while a signal waits
};

// Calls back on a thread of its own for every interrupt, until destroyed.
class InterruptCallback {
 public:
  InterruptCallback(Interrupts& interrupts, std::function<void()> callback);
  ~InterruptCallback();
  InterruptCallback(const InterruptCallback&) = delete;
  InterruptCallback& operator=(const InterruptCallback&) = delete;

 private:
  int stop_fd_;
  std::thread thread_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_INTERRUPTS_H_
