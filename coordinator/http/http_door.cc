#include "coordinator/http/http_door.h"

#include <utility>

#include "coordinator/http/error_responses.h"
#include "coordinator/http/http_server.h"
#include "coordinator/http/routes.h"

namespace tessera::coordinator {
namespace {

class HttpDoorImpl final : public HttpDoor {
 public:
  explicit HttpDoorImpl(const HttpDoorContext& context)
      : owns_worker_(context.worker == nullptr),
        worker_(owns_worker_ ? std::make_shared<TextWorker>() : context.worker),
        routes_(context, worker_) {}
  // The worker's threads are done with the routes before these go.
  ~HttpDoorImpl() override {
    Shutdown(absl::ZeroDuration());
    owns_worker_ ? worker_->Stop() : worker_->WaitForTaken();
  }

  absl::Status Listen(const HttpDoorOptions& options);
  int port() const override { return server_->port(); }
  void Shutdown(absl::Duration grace) override {
    if (server_ != nullptr) server_->Shutdown(grace);
  }

 private:
  const bool owns_worker_;
  const std::shared_ptr<TextWorker> worker_;
  Routes routes_;
  std::unique_ptr<HttpServer> server_;
};

absl::Status HttpDoorImpl::Listen(const HttpDoorOptions& options) {
  HttpServerOptions server_options;
  server_options.host = options.host;
  server_options.port = options.port;
  server_options.max_body_bytes = options.max_body_bytes;
  server_options.max_header_bytes = options.max_header_bytes;
  server_options.max_connections = options.max_connections;
  server_options.header_timeout = options.header_timeout;
  server_options.body_timeout = options.body_timeout;
  server_options.idle_timeout = options.idle_timeout;
  server_options.write_timeout = options.write_timeout;
  server_options.headers = {{"Server", "tessera"},
                            {"Access-Control-Allow-Origin", "*"},
                            {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"}};
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(
      server_options,
      {.handle =
           [this](HttpRequest request, std::shared_ptr<HttpResponder> responder) {
             routes_.Handle(std::move(request), responder);
           },
       .check_head = [this](const HttpRequest& head) { return routes_.CheckHead(head); },
       .make_error = &HttpErrorResponse});
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpDoor>> HttpDoor::Start(const HttpDoorOptions& options,
                                                          const HttpDoorContext& context) {
  auto door = std::make_unique<HttpDoorImpl>(context);
  const absl::Status listening = door->Listen(options);
  if (!listening.ok()) return listening;
  return std::unique_ptr<HttpDoor>(std::move(door));
}

}  // namespace tessera::coordinator
