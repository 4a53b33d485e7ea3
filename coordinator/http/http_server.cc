// The one translation unit with Boost.Beast and Asio: they take long to compile.
#include "coordinator/http/http_server.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "coordinator/http/http_connection.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {
namespace {

using namespace http_internal;  // NOLINT: its other half

class Server final : public HttpServer {
 public:
  Server(const HttpServerOptions& options, HttpHandlers handlers)
      : acceptor_(io_), sweep_(io_), retry_(io_) {
    shared_.options = options;
    shared_.handlers = std::move(handlers);
    shared_.wakes = std::make_shared<WakeList>(&io_);
    shared_.connection_ended = [this] {
      MutexLock lock(&mu_);
      if (shared_.connections.empty()) none_.SignalAll();
      connections_ = shared_.connections.size();
    };
  }
  ~Server() override { Shutdown(absl::ZeroDuration()); }

  absl::Status Listen();
  int port() const override { return port_; }
  void Shutdown(absl::Duration grace) override;

 private:
  Task Accept();
  Task Sweep();
  void Admit(tcp::socket socket);

  Shared shared_;
  Mutex mu_;
  CondVar none_;
  size_t connections_ ABSL_GUARDED_BY(mu_) = 0;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer sweep_;
  asio::steady_timer retry_;
  bool sweeping_ = false;
  int port_ = 0;
  std::thread thread_;
};

absl::Status Server::Listen() {
  const HttpServerOptions& options = shared_.options;
  const std::string where = absl::StrCat(options.host, ":", options.port);
  error_code ec;
  tcp::resolver resolver(io_);
  const auto found = resolver.resolve(options.host, absl::StrCat(options.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec || found.empty()) {
    return absl::UnavailableError(
        absl::StrCat("HTTP: --host ", options.host, " is no address here: ", ec.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), ec);
  if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor_.bind(endpoint, ec);
  if (!ec) acceptor_.listen(4096, ec);
  if (ec) {
    return absl::UnavailableError(
        absl::StrCat("HTTP: cannot listen on ", where, " (--host, --port): ", ec.message()));
  }
  port_ = acceptor_.local_endpoint().port();
  asio::co_spawn(io_, Accept(), asio::detached);
  thread_ = std::thread([this] { io_.run(); });
  return absl::OkStatus();
}

Task Server::Accept() {
  while (!shared_.draining) {
    auto [ec, socket] = co_await acceptor_.async_accept(kUse);
    if (ec == asio::error::operation_aborted) break;
    if (!ec) {
      Admit(std::move(socket));
    } else {  // no file descriptors left, most likely: some will be free again
      retry_.expires_after(std::chrono::milliseconds(100));
      (void)co_await retry_.async_wait(kUse);
    }
  }
}

void Server::Admit(tcp::socket socket) {
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.set_option(tcp::no_delay(true), ignored);
  if (shared_.connections.size() >= static_cast<size_t>(shared_.options.max_connections)) {
    const HttpResponse full = shared_.handlers.make_error(503, "too many connections");
    const std::string bytes = FormatHead(full, {.keep_alive = false}) + full.body;
    socket.write_some(asio::buffer(bytes), ignored);
    return;
  }
  auto connection = std::make_shared<Connection>(std::move(socket), &shared_);
  {
    MutexLock lock(&mu_);
    connections_ = shared_.connections.size();
  }
  connection->Start();
  if (!std::exchange(sweeping_, true)) asio::co_spawn(io_, Sweep(), asio::detached);
}

// Runs while there are connections: one timer for all their deadlines.
Task Server::Sweep() {
  const HttpServerOptions& options = shared_.options;
  const absl::Duration shortest = std::min({options.header_timeout, options.body_timeout,
                                            options.write_timeout, options.idle_timeout});
  const absl::Duration interval =
      std::clamp(shortest / 8, absl::Milliseconds(10), absl::Milliseconds(250));
  while (!shared_.connections.empty()) {
    sweep_.expires_after(absl::ToChronoNanoseconds(interval));
    (void)co_await sweep_.async_wait(kUse);
    const Clock::time_point now = Clock::now();
    for (Connection* connection : shared_.connections) connection->Tick(now);
  }
  sweeping_ = false;
}

void Server::Shutdown(absl::Duration grace) {
  if (!thread_.joinable()) return;
  asio::post(io_, [this] {
    error_code ignored;
    acceptor_.close(ignored);
    shared_.draining = true;
    for (Connection* connection : shared_.connections) connection->Wake();
  });
  const auto wait_for_none = [this](absl::Duration timeout) {
    const absl::Time limit = absl::Now() + timeout;
    MutexLock lock(&mu_);
    while (connections_ > 0 && !none_.WaitWithDeadline(&mu_, limit)) {
    }
  };
  wait_for_none(std::min(grace, absl::Hours(24)));
  asio::post(io_, [this] {
    for (Connection* connection : shared_.connections) connection->Close();
  });
  wait_for_none(absl::Seconds(5));
  shared_.wakes->Close();
  io_.stop();
  thread_.join();
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              HttpHandlers handlers) {
  if (!handlers.make_error) {
    handlers.make_error = [](int status, const std::string& /*message*/) {
      return HttpResponse{.status = status};
    };
  }
  auto server = std::make_unique<Server>(options, std::move(handlers));
  const absl::Status listening = server->Listen();
  if (!listening.ok()) return listening;
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace tessera::coordinator
