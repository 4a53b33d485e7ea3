// One client's server stream: a gRPC write reactor that is fed by a TokenSink.
//
// One write is on the wire at a time. What arrives meanwhile is merged into one pending message
// (ids and text appended), so a slow reader holds one message back, never a growing queue of them,
// and never the loop. Internal to the inference service: needs gRPC's headers.
//
//   auto* stream = new ResponseStream(loop);       // deletes itself when gRPC is done with it
//   stream->Begin(std::move(request));             // submits; a refusal ends the stream
//   return stream;
#ifndef TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_
#define TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "coordinator/api/engine_loop.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Appends `more`, which follows `chunk` on the same stream.
void MergeChunk(v1::GenerateResponse&& more, v1::GenerateResponse& chunk);

class ResponseStream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  explicit ResponseStream(EngineLoop* loop) : loop_(loop) {}

  void Begin(GenerationRequest request);
  void Refuse(const absl::Status& why) { End(why); }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Sink;  // what the loop holds; outlives this object harmlessly

  void Accept(v1::GenerateResponse chunk, bool last);
  void End(const absl::Status& status);
  void StartNextLocked();

  EngineLoop* const loop_;
  std::shared_ptr<Sink> sink_;

  std::mutex mu_;
  std::optional<int64_t> id_;                    // once submitted
  v1::GenerateResponse writing_;                 // owned by gRPC while write_in_flight_
  std::optional<v1::GenerateResponse> pending_;  // merged
  bool write_in_flight_ = false;
  bool last_pending_ = false;  // pending_ is the last message
  bool finished_ = false;      // Finish was called
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_RESPONSE_STREAM_H_
