#include "coordinator/api/response_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/grpc_status.h"

namespace tessera::coordinator {
namespace {

absl::Status ClientLeft() { return absl::CancelledError("the client left"); }

}  // namespace

// Forwards to the stream until gRPC is done with it.
class ResponseStream::Sink final : public TokenSink {
 public:
  explicit Sink(ResponseStream* stream) : stream_(stream) {}

  void Push(v1::GenerateResponse chunk) override {
    std::lock_guard<std::mutex> lock(mu_);
    if (stream_ != nullptr) stream_->Accept(std::move(chunk), /*last=*/false);
  }
  void Finish(v1::GenerateResponse last) override {
    std::lock_guard<std::mutex> lock(mu_);
    if (stream_ != nullptr) stream_->Accept(std::move(last), /*last=*/true);
  }
  void Fail(absl::Status why) override {
    std::lock_guard<std::mutex> lock(mu_);
    if (stream_ != nullptr) stream_->End(why);
  }
  void Detach() {
    std::lock_guard<std::mutex> lock(mu_);
    stream_ = nullptr;
  }

 private:
  std::mutex mu_;
  ResponseStream* stream_;
};

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

// The lock is held throughout: tokens that come before this returns wait for it, and so does the
// stream's end.
void ResponseStream::Begin(GenerationRequest request) {
  std::lock_guard<std::mutex> lock(mu_);
  begun_ = true;
  if (cancelled_) return EndLocked(ClientLeft());
  sink_ = std::make_shared<Sink>(this);
  const absl::StatusOr<int64_t> id = loop_->Submit(std::move(request), sink_);
  if (!id.ok()) return EndLocked(id.status());
  id_ = *id;
}

void ResponseStream::Refuse(const absl::Status& why) {
  std::lock_guard<std::mutex> lock(mu_);
  begun_ = true;
  EndLocked(why);
}

bool ResponseStream::cancelled() {
  std::lock_guard<std::mutex> lock(mu_);
  return cancelled_;
}

void ResponseStream::Accept(v1::GenerateResponse chunk, bool last) {
  std::optional<int64_t> too_slow;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (finished_) return;
    const size_t bytes = chunk.ByteSizeLong();
    held_bytes_ += bytes;
    if (!pending_.empty() && pending_.back().bytes + bytes <= kMergedBytes) {
      MergeChunk(std::move(chunk), pending_.back().chunk);
      pending_.back().bytes += bytes;
    } else {
      pending_.push_back({std::move(chunk), bytes});
    }
    last_pending_ = last;
    if (!write_in_flight_) StartNextLocked();
    if (held_bytes_ <= kHeldBytes) return;
    too_slow = id_;
    EndLocked(absl::ResourceExhaustedError(
        absl::StrCat("the client does not read: ", held_bytes_, " bytes wait for it")));
  }
  if (too_slow) loop_->Cancel(*too_slow);
}

void ResponseStream::StartNextLocked() {
  if (finished_ || pending_.empty()) return;
  writing_ = std::move(pending_.front().chunk);
  held_bytes_ -= pending_.front().bytes;
  pending_.pop_front();
  write_in_flight_ = true;
  if (last_pending_ && pending_.empty()) {
    finished_ = true;
    StartWriteAndFinish(&writing_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&writing_);
  }
}

// gRPC sends the status after the write in flight; what was merged behind it is dropped.
void ResponseStream::EndLocked(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  pending_.clear();
  Finish(wire::ToGrpc(status));
}

void ResponseStream::End(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mu_);
  EndLocked(status);
}

void ResponseStream::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mu_);
  write_in_flight_ = false;
  if (ok) StartNextLocked();  // a broken stream: OnCancel follows
}

// The client left, its deadline passed or its connection broke.
void ResponseStream::OnCancel() {
  std::optional<int64_t> id;
  {
    std::lock_guard<std::mutex> lock(mu_);
    cancelled_ = true;
    if (!begun_) return;  // Begin ends it
    id = id_;
    EndLocked(ClientLeft());
  }
  if (id) loop_->Cancel(*id);
}

void ResponseStream::OnDone() {
  {
    std::lock_guard<std::mutex> lock(
        mu_);  // until Begin or Refuse, which finished it, has returned
  }
  if (sink_ != nullptr) sink_->Detach();
  LiveStreams* const live = live_;
  delete this;
  live->Remove();
}

}  // namespace tessera::coordinator
