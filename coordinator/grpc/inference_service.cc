#include "coordinator/grpc/inference_service.h"

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "coordinator/grpc/response_stream.h"
#include "coordinator/grpc/write_queue.h"
#include "proto/base/mutex.h"
#include "proto/wire/grpc_status.h"
#include "proto/base/status_macros.h"
#include "tessera/v1/inference.grpc.pb.h"

namespace tessera::coordinator {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

absl::string_view Metadata(const grpc::CallbackServerContext& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

// gRPC made the request for this call alone and looks at it no more: its texts need not be copied.
template <typename Request>
Request Taken(const Request* request) {
  return std::move(*const_cast<Request*>(request));
}

// A unary call that gives up its work when the client leaves.
class ScoreReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit ScoreReactor(LiveStreams* live) : live_(live) { live_->Add(); }

  void SetCall(std::shared_ptr<FrontDoor::Call> call) {
    {
      MutexLock lock(&mu_);
      if (!cancelled_) {
        call_ = std::move(call);
        return;
      }
    }
    call->Cancel();
  }

  void Answer(const absl::Status& status) {
    MutexLock lock(&mu_);
    if (!std::exchange(finished_, true)) Finish(wire::ToGrpc(status));
  }

  void OnCancel() override {
    std::shared_ptr<FrontDoor::Call> call;
    {
      MutexLock lock(&mu_);
      cancelled_ = true;
      call = std::move(call_);
    }
    if (call != nullptr) call->Cancel();
    Answer(absl::CancelledError("the client left"));
  }

  void OnDone() override {
    LiveStreams* const live = live_;
    self_ = nullptr;
    live->Remove();
  }

  void Keep(std::shared_ptr<ScoreReactor> self) { self_ = std::move(self); }

 private:
  LiveStreams* const live_;
  std::shared_ptr<ScoreReactor> self_;  // until gRPC is done with it
  Mutex mu_;
  std::shared_ptr<FrontDoor::Call> call_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class InferenceService final : public v1::Inference::CallbackService {
 public:
  InferenceService(FrontDoor* front, const Access* access) : front_(front), access_(access) {}
  // gRPC may be done with the server before it is done with the last streams.
  ~InferenceService() override { live_streams_.WaitForNone(); }

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    return Stream(*context, [&](const Caller& caller, std::shared_ptr<TokenSink> sink) {
      return front_->Generate(Taken(request), caller, std::move(sink));
    });
  }

  grpc::ServerWriteReactor<v1::GenerateResponse>* Chat(grpc::CallbackServerContext* context,
                                                       const v1::ChatRequest* request) override {
    return Stream(*context, [&](const Caller& caller, std::shared_ptr<TokenSink> sink) {
      return front_->Chat(Taken(request), caller, std::move(sink));
    });
  }

  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override {
    const absl::StatusOr<Caller> caller = Identify(*context);
    if (!caller.ok()) return Done(*context, caller.status());
    auto reactor = std::make_shared<ScoreReactor>(&live_streams_);
    reactor->Keep(reactor);
    // The response lives as long as the call is not finished.
    reactor->SetCall(front_->Score(
        Taken(request), *caller, [reactor, response](absl::StatusOr<v1::ScoreResponse> scores) {
          const absl::Status status = scores.status();
          if (scores.ok()) *response = *std::move(scores);
          reactor->Answer(status);
        }));
    return reactor.get();
  }

  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* /*response*/) override {
    const absl::StatusOr<Caller> caller = Identify(*context);
    if (!caller.ok()) return Done(*context, caller.status());
    return Done(*context, front_->Abort(*caller, request->request_id()));
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    return Unary<v1::TokenizeResponse>(*context, response, [&](auto answer) {
      front_->Tokenize(Taken(request), std::move(answer));
    });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    return Unary<v1::DetokenizeResponse>(*context, response, [&](auto answer) {
      front_->Detokenize(Taken(request), std::move(answer));
    });
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* /*request*/,
                                       v1::ListModelsResponse* response) override {
    const absl::Status admitted = Identify(*context).status();
    if (admitted.ok()) *response = front_->ListModels();
    return Done(*context, admitted);
  }

  grpc::ServerUnaryReactor* GetClusterStatus(grpc::CallbackServerContext* context,
                                             const v1::GetClusterStatusRequest* /*request*/,
                                             v1::GetClusterStatusResponse* response) override {
    const absl::Status admitted = Identify(*context).status();
    if (admitted.ok()) *response = front_->ClusterStatus();
    return Done(*context, admitted);
  }

 private:
  static grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext& context,
                                        const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
    reactor->Finish(wire::ToGrpc(status));
    return reactor;
  }

  absl::StatusOr<Caller> Identify(const grpc::CallbackServerContext& context) const {
    Caller caller;
    TESSERA_ASSIGN_OR_RETURN(caller.tenant, access_->Admit(Metadata(context, "authorization"),
                                                           Metadata(context, "x-tenant-id")));
    caller.deadline = DeadlineOf(context);
    return caller;
  }

  // `start` gets what takes the answer; request and response live until the reactor has finished.
  template <typename Response, typename Start>
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext& context, Response* response,
                                  Start start) {
    const absl::Status admitted = Identify(context).status();
    if (!admitted.ok()) return Done(context, admitted);
    grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
    start([reactor, response](absl::StatusOr<Response> answer) {
      const absl::Status status = answer.status();
      if (answer.ok()) *response = *std::move(answer);
      reactor->Finish(wire::ToGrpc(status));
    });
    return reactor;
  }

  template <typename Start>
  grpc::ServerWriteReactor<v1::GenerateResponse>* Stream(const grpc::CallbackServerContext& context,
                                                         Start start) {
    ResponseStream* stream = ResponseStream::Begin(&writes_, &live_streams_);
    const absl::StatusOr<Caller> caller = Identify(context);
    if (caller.ok()) {
      stream->SetCall(start(*caller, stream->sink()));
    } else {
      stream->Fail(caller.status());
    }
    return stream;
  }

  FrontDoor* const front_;
  const Access* const access_;
  WriteQueue writes_;
  LiveStreams live_streams_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(FrontDoor* front, const Access* access) {
  return std::make_unique<InferenceService>(front, access);
}

}  // namespace tessera::coordinator
