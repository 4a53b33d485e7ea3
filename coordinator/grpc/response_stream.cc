#include "coordinator/grpc/response_stream.h"

#include <utility>

#include "proto/wire/grpc_status.h"

namespace tessera::coordinator {
void LiveStreams::Add() {
  MutexLock lock(&mu_);
  ++count_;
}

void LiveStreams::Remove() {
  MutexLock lock(&mu_);
  if (--count_ == 0) none_.SignalAll();
}

void LiveStreams::WaitForNone() {
  MutexLock lock(&mu_);
  while (count_ > 0) none_.Wait(&mu_);
}

ResponseStream* ResponseStream::Begin(WriteQueue* writes, LiveStreams* live) {
  std::shared_ptr<ResponseStream> stream(new ResponseStream(writes, live));
  stream->self_ = stream;
  return stream.get();
}

ResponseStream::ResponseStream(WriteQueue* writes, LiveStreams* live)
    : writes_(writes), live_(live) {
  live_->Add();
}

void ResponseStream::SetCall(std::shared_ptr<FrontDoor::Call> call) {
  {
    MutexLock lock(&mu_);
    if (!cancelled_) {
      if (!finished_) call_ = std::move(call);
      return;
    }
  }
  call->Cancel();
}

// ---- from the engine ----------------------------------------------------------------------------

void ResponseStream::Push(v1::GenerateResponse chunk) {
  std::shared_ptr<FrontDoor::Call> too_slow;
  {
    MutexLock lock(&mu_);
    if (finished_) return;
    held_.Merge(std::move(chunk));
    WakeWriter();
    const absl::Status reads = held_.CheckBound();
    if (reads.ok()) return;
    EndNow(reads);
    cancelled_ = true;
    too_slow = std::move(call_);
  }
  if (too_slow != nullptr) too_slow->Cancel();
}

void ResponseStream::Finish(v1::GenerateResponse last) {
  MutexLock lock(&mu_);
  if (finished_) return;
  held_.Merge(std::move(last));
  last_ = absl::OkStatus();
  WakeWriter();
}

void ResponseStream::Fail(absl::Status why) {
  MutexLock lock(&mu_);
  if (finished_) return;
  last_ = std::move(why);
  WakeWriter();
}

void ResponseStream::WakeWriter() {
  if (write_in_flight_ || std::exchange(waits_for_turn_, true)) return;
  writes_->Add(shared_from_this());
}

// ---- to gRPC ------------------------------------------------------------------------------------

void ResponseStream::StartNext() {
  MutexLock lock(&mu_);
  waits_for_turn_ = false;
  if (!write_in_flight_) StartNextWrite();
}

void ResponseStream::StartNextWrite() {
  if (finished_) return;
  if (held_.empty()) {
    if (last_) EndNow(*last_);
    return;
  }
  writing_ = std::move(held_.Take().chunk);
  write_in_flight_ = true;
  if (last_ && held_.empty()) {
    finished_ = true;
    StartWriteAndFinish(&writing_, grpc::WriteOptions(), wire::ToGrpc(*last_));
  } else {
    StartWrite(&writing_);
  }
}

// gRPC sends the status after the write in flight; what was merged behind it is dropped.
void ResponseStream::EndNow(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  held_.Clear();
  grpc::ServerWriteReactor<v1::GenerateResponse>::Finish(wire::ToGrpc(status));
}

void ResponseStream::OnWriteDone(bool ok) {
  MutexLock lock(&mu_);
  write_in_flight_ = false;
  if (ok) StartNextWrite();  // a broken stream: OnCancel follows
}

// The client left, its deadline passed or its connection broke.
void ResponseStream::OnCancel() {
  std::shared_ptr<FrontDoor::Call> call;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    call = std::move(call_);
    EndNow(absl::CancelledError("the client left"));
  }
  if (call != nullptr) call->Cancel();
}

// Others may still hold the stream for a moment, but nothing of gRPC's is called any more.
void ResponseStream::OnDone() {
  std::shared_ptr<FrontDoor::Call> call;
  {
    MutexLock lock(&mu_);
    finished_ = true;
    call = std::move(call_);
  }
  LiveStreams* const live = live_;
  self_ = nullptr;  // perhaps the end of this object
  live->Remove();
}

}  // namespace tessera::coordinator
