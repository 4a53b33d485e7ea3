#include "coordinator/cli/client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "proto/base/mutex.h"
#include "proto/wire/grpc_status.h"
#include "tessera/v1/inference.grpc.pb.h"

namespace tessera::coordinator {
namespace {

// A server that does not answer within this is not going to: of what does not wait for a model.
constexpr std::chrono::seconds kUnaryTimeout(30);
// Of a score, which waits for a long prompt's turn and its computing.
constexpr std::chrono::seconds kScoreTimeout(600);

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the tokens of a long text
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

class ClientImpl final : public Client {
 public:
  explicit ClientImpl(const ServerAddress& server)
      : server_(server),
        channel_(OpenChannel(server.host_port)),
        stub_(v1::Inference::NewStub(channel_)) {}

  absl::Status Generate(const v1::GenerateRequest& request,
                        const ChunkCallback& on_chunk) override {
    return Stream(on_chunk,
                  [&](grpc::ClientContext* context) { return stub_->Generate(context, request); });
  }

  absl::Status Chat(const v1::ChatRequest& request, const ChunkCallback& on_chunk) override {
    return Stream(on_chunk,
                  [&](grpc::ClientContext* context) { return stub_->Chat(context, request); });
  }

  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) override {
    return Unary<v1::ScoreResponse>(
        [&](grpc::ClientContext* context, auto* response) {
          return stub_->Score(context, request, response);
        },
        kScoreTimeout);
  }

  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) override {
    return Unary<v1::TokenizeResponse>([&](grpc::ClientContext* context, auto* response) {
      return stub_->Tokenize(context, request, response);
    });
  }

  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request) override {
    return Unary<v1::DetokenizeResponse>([&](grpc::ClientContext* context, auto* response) {
      return stub_->Detokenize(context, request, response);
    });
  }

  absl::StatusOr<v1::ListModelsResponse> ListModels() override {
    return Unary<v1::ListModelsResponse>([&](grpc::ClientContext* context, auto* response) {
      return stub_->ListModels(context, v1::ListModelsRequest(), response);
    });
  }

  absl::StatusOr<v1::GetClusterStatusResponse> GetClusterStatus() override {
    return Unary<v1::GetClusterStatusResponse>([&](grpc::ClientContext* context, auto* response) {
      return stub_->GetClusterStatus(context, v1::GetClusterStatusRequest(), response);
    });
  }

  void Cancel() override {
    MutexLock lock(&mu_);
    if (context_ != nullptr) context_->TryCancel();
  }

 private:
  void Introduce(grpc::ClientContext& context) const {
    if (!server_.api_key.empty()) context.AddMetadata("authorization", "Bearer " + server_.api_key);
    if (!server_.tenant.empty()) context.AddMetadata("x-tenant-id", server_.tenant);
  }

  // Makes a context the one that Cancel ends, for as long as this lives.
  class InProgress {
   public:
    InProgress(ClientImpl* client, grpc::ClientContext* context) : client_(client) {
      client->Introduce(*context);
      MutexLock lock(&client_->mu_);
      client_->context_ = context;
    }
    ~InProgress() {
      MutexLock lock(&client_->mu_);
      client_->context_ = nullptr;
    }

   private:
    ClientImpl* client_;
  };

  template <typename Open>
  absl::Status Stream(const ChunkCallback& on_chunk, Open open) {
    grpc::ClientContext context;
    const InProgress in_progress(this, &context);
    const auto reader = open(&context);
    v1::GenerateResponse chunk;
    while (reader->Read(&chunk)) on_chunk(chunk);
    return Explain(reader->Finish());
  }

  template <typename Response, typename Call>
  absl::StatusOr<Response> Unary(Call call, std::chrono::seconds timeout = kUnaryTimeout) {
    grpc::ClientContext context;
    const InProgress in_progress(this, &context);
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    Response response;
    const absl::Status status = Explain(call(&context, &response));
    if (!status.ok()) return status;
    return response;
  }

  // gRPC's own words for "nobody listens there" are long and name internals.
  absl::Status Explain(const grpc::Status& status) const {
    const bool reached = channel_->GetState(false) == GRPC_CHANNEL_READY;
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || reached) {
      return wire::FromGrpc(status);
    }
    return absl::UnavailableError(
        absl::StrCat("no answer from ", server_.host_port, ": is `tessera serve` running there?"));
  }

  const ServerAddress server_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  Mutex mu_;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace

std::unique_ptr<Client> Client::Connect(const ServerAddress& server) {
  return std::make_unique<ClientImpl>(server);
}

}  // namespace tessera::coordinator
