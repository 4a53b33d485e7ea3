#include "coordinator/cli/batch_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {

BatchRunner::BatchRunner(const BatchOptions& options, std::istream& input, std::ostream& output,
                         BatchResults done, BatchSend send)
    : options_(options),
      send_(std::move(send)),
      input_(input),
      output_(output),
      done_(std::move(done)) {}

BatchRunner::~BatchRunner() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void BatchRunner::Start() {
  {
    MutexLock lock(&mu_);
    live_ = options_.concurrency;
  }
  for (int slot = 0; slot < options_.concurrency; ++slot) {
    threads_.emplace_back([this, slot] { Work(slot); });
  }
}

void BatchRunner::Stop() { Fail(absl::CancelledError("interrupted")); }

bool BatchRunner::Wait(absl::Duration timeout) {
  return finished_.WaitForNotificationWithTimeout(timeout);
}

BatchProgress BatchRunner::Progress() const {
  MutexLock lock(&mu_);
  return progress_;
}

absl::Status BatchRunner::status() const {
  MutexLock lock(&mu_);
  return status_;
}

void BatchRunner::Work(int slot) {
  BatchRequest request;
  while (Take(&request)) {
    absl::StatusOr<std::string> line = ResultLine(slot, request);
    if (!line.ok()) {
      Fail(line.status());
      break;
    }
    Write(*line);
  }
  MutexLock lock(&mu_);
  if (--live_ == 0) finished_.Notify();
}

bool BatchRunner::Take(BatchRequest* request) {
  MutexLock lock(&mu_);
  std::string text;
  while (!stopped_.HasBeenNotified() && std::getline(input_, text)) {
    ++line_;
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    *request = ParseBatchRequest(line_, text);
    if (!done_.Has(*request)) {
      CheckUnique(request);
      return true;
    }
    ++progress_.skipped;
  }
  return false;
}

void BatchRunner::CheckUnique(BatchRequest* request) {
  if (!request->custom_id || seen_.insert(*request->custom_id).second) return;
  request->status = wire::FieldError("custom_id", "stands on an earlier line already");
}

absl::StatusOr<std::string> BatchRunner::ResultLine(int slot, const BatchRequest& request) {
  absl::Status failed = request.status;
  for (int unavailable = 0; request.status.ok();) {
    const absl::StatusOr<BatchReply> reply = send_(slot, request);
    if (reply.ok()) {
      MutexLock lock(&mu_);
      ++progress_.answered;
      progress_.completion_tokens += reply->completion_tokens;
      return BatchResultLine(request, *reply);
    }
    failed = reply.status();
    const bool is_full = absl::IsResourceExhausted(failed) && wire::RetryAfter(failed).has_value();
    const bool is_away = absl::IsUnavailable(failed);
    if (stopped_.HasBeenNotified()) return absl::CancelledError("interrupted");
    if (is_away && ++unavailable > options_.unavailable_retries) return failed;
    if (!is_full && !is_away) break;
    const absl::Duration delay = wire::RetryAfter(failed).value_or(options_.retry_delay);
    if (stopped_.WaitForNotificationWithTimeout(delay)) {
      return absl::CancelledError("interrupted");
    }
  }
  MutexLock lock(&mu_);
  ++progress_.failed;
  return BatchErrorLine(request, failed);
}

void BatchRunner::Write(const std::string& line) {
  bool is_written = false;
  {
    MutexLock lock(&mu_);
    output_ << line << std::flush;
    is_written = output_.good();
  }
  if (!is_written) Fail(absl::DataLossError("cannot write the results; is the disk full?"));
}

void BatchRunner::Fail(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (stopped_.HasBeenNotified()) return;
  if (!finished_.HasBeenNotified()) status_ = why;
  stopped_.Notify();
}

}  // namespace tessera::coordinator
