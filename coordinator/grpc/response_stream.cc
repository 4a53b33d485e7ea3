#include "coordinator/grpc/response_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/grpc_status.h"

namespace tessera::coordinator {
namespace {

// What a message held in memory costs beside its bytes on the wire.
constexpr size_t kMessageOverhead = 256;

}  // namespace

void MergeChunk(v1::GenerateResponse&& more, v1::GenerateResponse& chunk) {
  // MergeFrom appends to repeated fields but replaces strings.
  std::string text = std::move(*chunk.mutable_text());
  text.append(more.text());
  chunk.MergeFrom(more);
  chunk.set_text(std::move(text));
}

void LiveStreams::Add() {
  std::lock_guard<std::mutex> lock(mu_);
  ++count_;
}

void LiveStreams::Remove() {
  std::lock_guard<std::mutex> lock(mu_);
  if (--count_ == 0) none_.notify_all();
}

void LiveStreams::WaitForNone() {
  std::unique_lock<std::mutex> lock(mu_);
  none_.wait(lock, [this] { return count_ == 0; });
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
    std::lock_guard<std::mutex> lock(mu_);
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
    std::lock_guard<std::mutex> lock(mu_);
    if (finished_) return;
    AppendLocked(std::move(chunk));
    WakeLocked();
    if (held_bytes_ <= kHeldBytes) return;
    EndNowLocked(absl::ResourceExhaustedError(
        absl::StrCat("the client does not read: ", held_bytes_, " bytes wait for it")));
    cancelled_ = true;
    too_slow = std::move(call_);
  }
  if (too_slow != nullptr) too_slow->Cancel();
}

void ResponseStream::Finish(v1::GenerateResponse last) {
  std::lock_guard<std::mutex> lock(mu_);
  if (finished_) return;
  AppendLocked(std::move(last));
  last_ = absl::OkStatus();
  WakeLocked();
}

void ResponseStream::Fail(absl::Status why) {
  std::lock_guard<std::mutex> lock(mu_);
  if (finished_) return;
  last_ = std::move(why);
  WakeLocked();
}

void ResponseStream::AppendLocked(v1::GenerateResponse chunk) {
  const size_t bytes = chunk.ByteSizeLong();
  if (Merged* target = MergeTargetLocked(chunk, bytes)) {
    MergeChunk(std::move(chunk), target->chunk);
    target->bytes += bytes;
    held_bytes_ += bytes;
    return;
  }
  pending_.push_back({std::move(chunk), bytes + kMessageOverhead});
  held_bytes_ += pending_.back().bytes;
}

// The newest message about the same choice: there is at most one with room for each choice. The
// very last message, which tells the usage, stays last.
ResponseStream::Merged* ResponseStream::MergeTargetLocked(const v1::GenerateResponse& chunk,
                                                          size_t bytes) {
  for (auto merged = pending_.rbegin(); merged != pending_.rend(); ++merged) {
    if (merged->chunk.index() == chunk.index()) {
      return merged->bytes + bytes <= kMergedBytes ? &*merged : nullptr;
    }
    if (chunk.has_usage()) return nullptr;
  }
  return nullptr;
}

void ResponseStream::WakeLocked() {
  if (write_in_flight_ || std::exchange(waits_for_turn_, true)) return;
  writes_->Add(shared_from_this());
}

// ---- to gRPC ------------------------------------------------------------------------------------

void ResponseStream::StartNext() {
  std::lock_guard<std::mutex> lock(mu_);
  waits_for_turn_ = false;
  if (!write_in_flight_) StartNextLocked();
}

void ResponseStream::StartNextLocked() {
  if (finished_) return;
  if (pending_.empty()) {
    if (last_) EndNowLocked(*last_);
    return;
  }
  writing_ = std::move(pending_.front().chunk);
  held_bytes_ -= pending_.front().bytes;
  pending_.pop_front();
  write_in_flight_ = true;
  if (last_ && pending_.empty()) {
    finished_ = true;
    StartWriteAndFinish(&writing_, grpc::WriteOptions(), wire::ToGrpc(*last_));
  } else {
    StartWrite(&writing_);
  }
}

// gRPC sends the status after the write in flight; what was merged behind it is dropped.
void ResponseStream::EndNowLocked(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  pending_.clear();
  grpc::ServerWriteReactor<v1::GenerateResponse>::Finish(wire::ToGrpc(status));
}

void ResponseStream::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mu_);
  write_in_flight_ = false;
  if (ok) StartNextLocked();  // a broken stream: OnCancel follows
}

// The client left, its deadline passed or its connection broke.
void ResponseStream::OnCancel() {
  std::shared_ptr<FrontDoor::Call> call;
  {
    std::lock_guard<std::mutex> lock(mu_);
    cancelled_ = true;
    call = std::move(call_);
    EndNowLocked(absl::CancelledError("the client left"));
  }
  if (call != nullptr) call->Cancel();
}

// Others may still hold the stream for a moment, but nothing of gRPC's is called any more.
void ResponseStream::OnDone() {
  std::shared_ptr<FrontDoor::Call> call;
  {
    std::lock_guard<std::mutex> lock(mu_);
    finished_ = true;
    call = std::move(call_);
  }
  LiveStreams* const live = live_;
  self_ = nullptr;  // perhaps the end of this object
  live->Remove();
}

}  // namespace tessera::coordinator
