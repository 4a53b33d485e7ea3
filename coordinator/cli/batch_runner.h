// Sends the requests of a batch file, a bounded number at a time, and writes each result as it
// comes. Requests that a full server turns away wait as long as it says and are sent again.
//
//   BatchRunner runner({.concurrency = 64}, input, output, results, send);
//   runner.Start();
//   while (!runner.Wait(absl::Milliseconds(200))) Show(runner.Progress());
//   status = runner.status();
#ifndef TESSERA_COORDINATOR_CLI_BATCH_RUNNER_H_
#define TESSERA_COORDINATOR_CLI_BATCH_RUNNER_H_

#include <cstdint>
#include <functional>
#include <istream>
#include <ostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "coordinator/cli/batch_lines.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

// Of `slot` 0 .. concurrency - 1; called from as many threads, one call per slot at a time.
using BatchSend = std::function<absl::StatusOr<BatchReply>(int slot, const BatchRequest& request)>;

struct BatchOptions {
  int concurrency = 64;
  // Times a request is sent again while the server is UNAVAILABLE, before the whole batch gives up.
  int unavailable_retries = 5;
  absl::Duration retry_delay = absl::Seconds(1);  // where the server says none
};

struct BatchProgress {
  int64_t skipped = 0;   // done by an earlier run
  int64_t answered = 0;  // by this one
  int64_t failed = 0;    // of this one: refused requests and bad lines
  int64_t completion_tokens = 0;
};

class BatchRunner {
 public:
  // Reads `input` and appends to `output`, both borrowed and used under one lock.
  BatchRunner(const BatchOptions& options, std::istream& input, std::ostream& output,
              BatchResults done, BatchSend send);
  ~BatchRunner();  // stops and waits

  void Start();
  // No further request is sent; those on their way are the caller's to cancel.
  void Stop();
  // True when all requests are through or the batch was stopped and none is on its way.
  bool Wait(absl::Duration timeout);

  BatchProgress Progress() const;
  // CANCELLED after Stop; UNAVAILABLE when nobody answered; DATA_LOSS when the output cannot be
  // written. Call it after Wait.
  absl::Status status() const;

 private:
  void Work(int slot);
  bool Take(BatchRequest* request);
  void CheckUnique(BatchRequest* request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Until it is answered or refused. Not OK: the batch is over.
  absl::StatusOr<std::string> ResultLine(int slot, const BatchRequest& request);
  void Write(const std::string& line);
  void Fail(const absl::Status& why);

  const BatchOptions options_;
  const BatchSend send_;
  absl::Notification stopped_, finished_;
  mutable Mutex mu_;
  std::istream& input_ ABSL_GUARDED_BY(mu_);
  std::ostream& output_ ABSL_GUARDED_BY(mu_);
  const BatchResults done_;
  std::set<std::string> seen_ ABSL_GUARDED_BY(mu_);
  int64_t line_ ABSL_GUARDED_BY(mu_) = 0;
  int live_ ABSL_GUARDED_BY(mu_) = 0;
  BatchProgress progress_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_BATCH_RUNNER_H_
