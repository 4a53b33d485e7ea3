// One client's server stream: a gRPC write reactor that is fed by a TokenSink.
//
// One write is on the wire at a time. What arrives meanwhile is merged into messages of up to
// kMergedBytes (ids and text appended), which any client can receive; a reader so slow that
// kHeldBytes pile up loses its stream. It never holds up the loop. Internal to the inference
// service: needs gRPC's headers.
//
//   auto* stream = new ResponseStream(loop, &live);  // deletes itself when gRPC is done with it
//   stream->Begin(std::move(request));               // submits; a refusal ends the stream
//   return stream;
//
// Begin or Refuse may come later and from another thread, but one of them has to come: until then
// the stream, and with it the client's request, stays, even when the client has left.
#ifndef TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_
#define TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "coordinator/api/engine_loop.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Appends `more`, which follows `chunk` on the same stream.
void MergeChunk(v1::GenerateResponse&& more, v1::GenerateResponse& chunk);

inline constexpr size_t kMergedBytes = size_t{64} << 10;
inline constexpr size_t kHeldBytes = size_t{4} << 20;

// Counts the streams that gRPC is not done with: what they use must outlive them.
class LiveStreams {
 public:
  void Add();
  void Remove();
  void WaitForNone();

 private:
  std::mutex mu_;
  std::condition_variable none_;
  int count_ = 0;
};

class ResponseStream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  ResponseStream(EngineLoop* loop, LiveStreams* live) : loop_(loop), live_(live) { live_->Add(); }

  void Begin(GenerationRequest request);
  void Refuse(const absl::Status& why);
  bool cancelled();  // what Begin needs is not worth making any more

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Sink;  // what the loop holds; outlives this object harmlessly

  void Accept(v1::GenerateResponse chunk, bool last);
  void End(const absl::Status& status);
  void StartNextLocked();
  void EndLocked(const absl::Status& status);

  EngineLoop* const loop_;
  LiveStreams* const live_;
  std::shared_ptr<Sink> sink_;

  std::mutex mu_;
  std::optional<int64_t> id_;  // once submitted
  struct Merged {
    v1::GenerateResponse chunk;
    size_t bytes = 0;  // about
  };

  v1::GenerateResponse writing_;  // owned by gRPC while write_in_flight_
  std::deque<Merged> pending_;
  size_t held_bytes_ = 0;  // of all of pending_
  bool begun_ = false;     // Begin or Refuse was called
  bool cancelled_ = false;
  bool write_in_flight_ = false;
  bool last_pending_ = false;  // pending_'s last is the stream's last
  bool finished_ = false;      // Finish was called
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_
