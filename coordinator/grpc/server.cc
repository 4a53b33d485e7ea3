#include "coordinator/grpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/service_type.h>

#include "absl/strings/str_cat.h"
#include "coordinator/grpc/inference_service.h"
#include "proto/base/host_port.h"

namespace tessera::coordinator {
namespace {

constexpr char kInferenceService[] = "tessera.v1.Inference";

void Configure(const ApiServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
  // By default two servers may share a port, and each would get half of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Clients may ping every 5 s, also between calls; gRPC's default would hang up on them.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
}

class ApiServerImpl final : public ApiServer {
 public:
  explicit ApiServerImpl(const ApiServerContext& context)
      : router_(context.router), service_(MakeInferenceService(context.front, context.access)) {}

  ~ApiServerImpl() override {
    if (server_ != nullptr) Shutdown(absl::ZeroDuration());
  }

  absl::Status Listen(const ApiServerOptions& options) {
    // Process-wide switches of gRPC, read when a server is built.
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    Configure(options, builder);
    const std::string address = HostPort(options.host, options.port);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      server_ = nullptr;
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", address,
                       " (--host, --grpc-port): the port is in use or the address not ours"));
    }
    router_->SetServingListener([health = server_->GetHealthCheckService()](bool serving) {
      health->SetServingStatus("", serving);
      health->SetServingStatus(kInferenceService, serving);
    });
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void Shutdown(absl::Duration grace) override {
    router_->SetServingListener(nullptr);
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
    server_->Wait();
    server_ = nullptr;
  }

 private:
  Router* const router_;
  const std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const ApiServerOptions& options,
                                                            const ApiServerContext& context) {
  auto server = std::make_unique<ApiServerImpl>(context);
  const absl::Status listening = server->Listen(options);
  if (!listening.ok()) return listening;
  return server;
}

}  // namespace tessera::coordinator
