// Ends the process if a call that has no deadline of its own (MPI_Finalize, MPI_Abort) hangs.
//
//   { Watchdog watchdog("MPI_Finalize", absl::Seconds(60)); MPI_Finalize(); }
#ifndef TESSERA_WORKER_COMM_WATCHDOG_H_
#define TESSERA_WORKER_COMM_WATCHDOG_H_

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/time/time.h"

namespace tessera::worker {

class Watchdog {
 public:
  // Unless destroyed within `limit`, prints that `what` (a string literal) did not return and
  // exits the process with status 1 at once.
  Watchdog(const char* what, absl::Duration limit);
  ~Watchdog();

  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void Watch(const char* what, absl::Duration limit);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_WATCHDOG_H_
