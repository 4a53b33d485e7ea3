#include "coordinator/api/response_stream.h"

#include <utility>

#include "proto/wire/grpc_status.h"

namespace tessera::coordinator {

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

void ResponseStream::Begin(GenerationRequest request) {
  sink_ = std::make_shared<Sink>(this);
  absl::StatusOr<int64_t> id = loop_->Submit(std::move(request), sink_);
  if (!id.ok()) return End(id.status());
  std::lock_guard<std::mutex> lock(mu_);
  id_ = *id;
}

void ResponseStream::Accept(v1::GenerateResponse chunk, bool last) {
  std::lock_guard<std::mutex> lock(mu_);
  if (finished_) return;
  if (pending_) {
    MergeChunk(std::move(chunk), *pending_);
  } else {
    pending_ = std::move(chunk);
  }
  last_pending_ = last;
  if (!write_in_flight_) StartNextLocked();
}

void ResponseStream::StartNextLocked() {
  if (finished_ || !pending_) return;
  writing_ = *std::exchange(pending_, std::nullopt);
  write_in_flight_ = true;
  if (last_pending_) {
    finished_ = true;
    StartWriteAndFinish(&writing_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&writing_);
  }
}

// gRPC sends the status after the write in flight; what was merged behind it is dropped.
void ResponseStream::End(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mu_);
  if (std::exchange(finished_, true)) return;
  Finish(wire::ToGrpc(status));
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
    id = id_;
  }
  if (id) loop_->Cancel(*id);
  End(absl::CancelledError("the client left"));
}

void ResponseStream::OnDone() {
  if (sink_ != nullptr) sink_->Detach();
  delete this;
}

}  // namespace tessera::coordinator
