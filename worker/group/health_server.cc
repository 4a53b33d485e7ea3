#include "worker/group/health_server.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

class HealthServerImpl : public HealthServer {
 public:
  ~HealthServerImpl() override {
    if (!server_) return;
    server_->GetHealthCheckService()->Shutdown();
    server_->Shutdown(std::chrono::system_clock::now());
  }

  absl::Status Listen(const std::string& host, int port) {
    grpc::EnableDefaultHealthCheckService(true);
    const std::string address = absl::StrCat(host, ":", port);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error
    // gRPC refuses a server without services of its own; this one answers UNIMPLEMENTED.
    builder.RegisterCallbackGenericService(&anything_else_);
    server_ = builder.BuildAndStart();
    if (!server_ || port_ == 0) {
      return absl::UnavailableError(absl::StrCat("the health service cannot listen on ", address,
                                                 ": the port is in use or not allowed "
                                                 "(--host, --health-port)"));
    }
    SetServing(false);
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void SetServing(bool serving) override {
    server_->GetHealthCheckService()->SetServingStatus(serving);
  }

 private:
  int port_ = 0;
  grpc::CallbackGenericService anything_else_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HealthServer>> HealthServer::Start(const std::string& host,
                                                                  int port) {
  auto server = std::make_unique<HealthServerImpl>();
  if (absl::Status status = server->Listen(host, port); !status.ok()) return status;
  return server;
}

}  // namespace tessera::worker
