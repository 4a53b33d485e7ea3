// One client's server stream: a gRPC write reactor that is fed by the front door.
//
// One write is on the wire at a time, started by the WriteQueue's thread. What arrives meanwhile is
// merged into messages of up to kMergedBytes (ids and text of one choice appended), which any client
// can receive; a reader so slow that kHeldBytes pile up loses its stream. It never holds up the
// loop. Internal to the inference service: needs gRPC's headers.
//
//   auto* stream = ResponseStream::Begin(&writes, &live);   // goes when gRPC is done with it
//   stream->SetCall(front->Generate(request, caller, stream->sink()));
//   return stream;
#ifndef TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_
#define TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "coordinator/front/front_door.h"
#include "coordinator/grpc/write_queue.h"
#include "coordinator/router/router.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Appends `more`, which follows `chunk` on the same stream and is about the same choice.
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

class ResponseStream final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                             public TokenSink,
                             public WriteQueue::Writer,
                             public std::enable_shared_from_this<ResponseStream> {
 public:
  static ResponseStream* Begin(WriteQueue* writes, LiveStreams* live);

  std::shared_ptr<TokenSink> sink() { return shared_from_this(); }
  void SetCall(std::shared_ptr<FrontDoor::Call> call);

  void Push(v1::GenerateResponse chunk) override;
  void Finish(v1::GenerateResponse last) override;
  void Fail(absl::Status why) override;

  void StartNext() override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // About one choice.
  struct Merged {
    v1::GenerateResponse chunk;
    size_t bytes = 0;  // about
  };

  ResponseStream(WriteQueue* writes, LiveStreams* live);

  void AppendLocked(v1::GenerateResponse chunk);
  // Where `chunk` may be appended, or null.
  Merged* MergeTargetLocked(const v1::GenerateResponse& chunk, size_t bytes);
  void WakeLocked();
  void StartNextLocked();
  void EndNowLocked(const absl::Status& status);

  WriteQueue* const writes_;
  LiveStreams* const live_;
  std::shared_ptr<ResponseStream> self_;  // until gRPC is done with it

  std::mutex mu_;
  std::shared_ptr<FrontDoor::Call> call_;
  v1::GenerateResponse writing_;  // owned by gRPC while write_in_flight_
  std::deque<Merged> pending_;
  size_t held_bytes_ = 0;             // of all of pending_
  std::optional<absl::Status> last_;  // nothing comes behind pending_; the stream's status
  bool cancelled_ = false;
  bool waits_for_turn_ = false;  // in the write queue
  bool write_in_flight_ = false;
  bool finished_ = false;  // gRPC's Finish was called
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_
