// One client's server stream: a gRPC write reactor that is fed by the front door.
//
// One write is on the wire at a time, started by the WriteQueue's thread. What arrives meanwhile is
// held and merged (front/held_chunks.h); a reader too slow for that loses its stream. It never holds
// up the engine. Internal to the inference service: needs gRPC's headers.
//
//   auto* stream = ResponseStream::Begin(&writes, &live);   // goes when gRPC is done with it
//   stream->SetCall(front->Generate(request, caller, stream->sink()));
//   return stream;
#ifndef TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_
#define TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/front/front_door.h"
#include "coordinator/front/held_chunks.h"
#include "coordinator/grpc/write_queue.h"
#include "proto/base/mutex.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Counts the streams that gRPC is not done with: what they use must outlive them.
class LiveStreams {
 public:
  void Add();
  void Remove();
  void WaitForNone();

 private:
  Mutex mu_;
  CondVar none_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
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
  ResponseStream(WriteQueue* writes, LiveStreams* live);

  void WakeWriter() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartNextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndNow(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  WriteQueue* const writes_;
  LiveStreams* const live_;
  std::shared_ptr<ResponseStream> self_;  // until gRPC is done with it

  Mutex mu_;
  std::shared_ptr<FrontDoor::Call> call_ ABSL_GUARDED_BY(mu_);
  v1::GenerateResponse writing_;  // owned by gRPC while write_in_flight_
  HeldChunks held_ ABSL_GUARDED_BY(mu_);
  // Nothing comes behind held_; the stream's status.
  std::optional<absl::Status> last_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool waits_for_turn_ ABSL_GUARDED_BY(mu_) = false;  // in the write queue
  bool write_in_flight_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;  // gRPC's Finish was called
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_RESPONSE_STREAM_H_
