#include "coordinator/api/inference_service.h"

#include <grpcpp/grpcpp.h>

#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "coordinator/api/prompt.h"
#include "coordinator/api/response_stream.h"
#include "coordinator/api/text_worker.h"
#include "coordinator/api/validate.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/status_macros.h"
#include "tessera/v1/inference.grpc.pb.h"

namespace tessera::coordinator {
namespace {

using ModelPtr = std::shared_ptr<const ServedModel>;

std::string NewRequestId() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return absl::StrFormat("req-%016x", generator());
}

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

class InferenceService final : public v1::Inference::CallbackService {
 public:
  explicit InferenceService(EngineLoop* loop) : loop_(loop) {}
  // gRPC may be done with the server before it is done with the last streams.
  ~InferenceService() override { live_streams_.WaitForNone(); }

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    return Stream(*context, *request);
  }

  grpc::ServerWriteReactor<v1::GenerateResponse>* Chat(grpc::CallbackServerContext* context,
                                                       const v1::ChatRequest* request) override {
    return Stream(*context, *request);
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    return WithModel(*context, *request, [=](const ServedModel& model) {
      return coordinator::Tokenize(*request, model, response);
    });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    return WithModel(*context, *request, [=](const ServedModel& model) {
      return coordinator::Detokenize(*request, model, response);
    });
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* /*request*/,
                                       v1::ListModelsResponse* response) override {
    if (const ModelPtr model = loop_->model()) *response->add_models() = InfoOf(*model);
    return Done(*context, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetClusterStatus(grpc::CallbackServerContext* context,
                                             const v1::GetClusterStatusRequest* /*request*/,
                                             v1::GetClusterStatusResponse* response) override {
    *response = loop_->Status();
    return Done(*context, absl::OkStatus());
  }

 private:
  static grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext& context,
                                        const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
    reactor->Finish(wire::ToGrpc(status));
    return reactor;
  }

  absl::StatusOr<ModelPtr> FindModel(const std::string& name) const {
    ModelPtr model = loop_->model();
    if (model == nullptr) {
      return absl::UnavailableError("no worker group is serving; retry once the cluster is ready");
    }
    TESSERA_RETURN_IF_ERROR(CheckModelName(name, *model));
    return model;
  }

  // Request and response live until the reactor has finished.
  template <typename Request, typename Answer>
  grpc::ServerUnaryReactor* WithModel(grpc::CallbackServerContext& context, const Request& request,
                                      Answer answer) {
    const absl::StatusOr<ModelPtr> model = FindModel(request.model());
    if (!model.ok()) return Done(context, model.status());
    grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
    text_worker_.Run(request.ByteSizeLong(), [reactor, model = *model, answer] {
      reactor->Finish(wire::ToGrpc(answer(*model)));
    });
    return reactor;
  }

  // A raw prompt is continued; a chat's answer is a text of its own.
  static TextBefore BeforeAnswer(const v1::GenerateRequest&) { return TextBefore::kPrompt; }
  static TextBefore BeforeAnswer(const v1::ChatRequest&) { return TextBefore::kNothing; }

  template <typename Request>
  absl::StatusOr<GenerationRequest> Prepare(const Request& request) const {
    TESSERA_ASSIGN_OR_RETURN(const ModelPtr model, FindModel(request.model()));
    TESSERA_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
    GenerationRequest prepared;
    TESSERA_ASSIGN_OR_RETURN(prepared.prompt_ids, PromptIds(request, *model));
    prepared.sampling = request.sampling();
    prepared.request_id = request.request_id().empty() ? NewRequestId() : request.request_id();
    prepared.text_before = BeforeAnswer(request);
    return prepared;
  }

  template <typename Request>
  grpc::ServerWriteReactor<v1::GenerateResponse>* Stream(const grpc::CallbackServerContext& context,
                                                         const Request& request) {
    auto* stream = new ResponseStream(loop_, &live_streams_);
    const absl::Time deadline = DeadlineOf(context);
    text_worker_.Run(request.ByteSizeLong(), [this, stream, &request, deadline] {
      if (stream->cancelled()) return stream->Refuse(absl::CancelledError("the client left"));
      absl::StatusOr<GenerationRequest> prepared = Prepare(request);
      if (!prepared.ok()) return stream->Refuse(prepared.status());
      prepared->deadline = deadline;
      stream->Begin(*std::move(prepared));
    });
    return stream;
  }

  EngineLoop* const loop_;
  LiveStreams live_streams_;
  TextWorker text_worker_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInferenceService(EngineLoop* loop) {
  return std::make_unique<InferenceService>(loop);
}

}  // namespace tessera::coordinator
