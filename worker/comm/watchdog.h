// Ends the process if a call that has no deadline of its own (MPI_Finalize, MPI_Abort) hangs.
//
//   { Watchdog watchdog("MPI_Finalize", absl::Seconds(60)); MPI_Finalize(); }
#ifndef TESSERA_WORKER_COMM_WATCHDOG_H_
#define TESSERA_WORKER_COMM_WATCHDOG_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "proto/base/mutex.h"

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

  Mutex mu_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_WATCHDOG_H_
