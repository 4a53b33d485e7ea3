#include "coordinator/front/stream_call.h"

#include <utility>

#include "proto/base/status_macros.h"

namespace tessera::coordinator {

StreamCall::StreamCall(std::shared_ptr<CallContext> context, const Caller& caller,
                       std::shared_ptr<TokenSink> sink)
    : LiveCall(std::move(context), caller), sink_(std::move(sink)) {}

void StreamCall::Begin(PreparedRequest request) {
  const absl::Status submitted = Submit(std::move(request));
  if (!submitted.ok()) Refuse(submitted);
}

// The lock is held throughout: tokens that come before this returns wait for it, and so does a
// Cancel, which needs the id.
absl::Status StreamCall::Submit(PreparedRequest request) {
  request.tenant = caller().tenant;
  request.deadline = caller().deadline;
  request.request_id = request_id();
  request.arrival = arrival();
  MutexLock lock(&mu_);
  if (sink_ == nullptr) return absl::OkStatus();
  auto self = std::static_pointer_cast<StreamCall>(shared_from_this());
  TESSERA_ASSIGN_OR_RETURN(id_, router()->Submit(std::move(request), std::move(self)));
  return absl::OkStatus();
}

std::shared_ptr<TokenSink> StreamCall::sink() {
  MutexLock lock(&mu_);
  return sink_;
}

std::shared_ptr<TokenSink> StreamCall::TakeSink() {
  std::shared_ptr<TokenSink> taken;
  {
    MutexLock lock(&mu_);
    taken = std::move(sink_);
  }
  if (taken != nullptr) Ended();
  return taken;
}

bool StreamCall::cancelled() { return sink() == nullptr; }

void StreamCall::Cancel() {
  if (TakeSink() == nullptr) return;
  std::optional<int64_t> id;
  {
    MutexLock lock(&mu_);
    id = id_;
  }
  if (id) router()->Cancel(*id);
}

void StreamCall::Abort() {
  const absl::Status why = absl::CancelledError("the request was aborted");
  std::optional<int64_t> id;
  {
    MutexLock lock(&mu_);
    id = id_;
  }
  // Submitted: the loop, which may be about to end it, says which end it was.
  if (id) return router()->Abort(*id, why);
  Refuse(why);
}

void StreamCall::Refuse(const absl::Status& why) {
  const std::shared_ptr<TokenSink> sink = TakeSink();
  if (sink == nullptr) return;
  CountRefusal(why);
  sink->Fail(why);
}

void StreamCall::Push(v1::GenerateResponse chunk) {
  if (const auto to = sink()) to->Push(std::move(chunk));
}

void StreamCall::Finish(v1::GenerateResponse last) {
  if (const auto to = TakeSink()) to->Finish(std::move(last));
}

void StreamCall::Fail(absl::Status why) {
  if (const auto to = TakeSink()) to->Fail(std::move(why));
}

}  // namespace tessera::coordinator
