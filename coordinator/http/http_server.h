// HTTP/1.1 on one thread: requests read within bounds and deadlines, handed to a handler, answered
// whole or as a stream. Knows nothing of what is served.
//
// The handlers run on the server's thread and must return at once; the answer may come later and
// from any thread through the responder. One request of a connection is answered at a time; what the
// client sends meanwhile waits, up to a bound. A client that closes its side before the answer is
// complete has left (half-closed connections do not wait for answers).
//
//   auto server = HttpServer::Start({.port = 0}, {.handle = [](HttpRequest request, auto responder) {
//     responder->Send(HttpResponse::Json(200, "{}"));
//   }});
//   print((*server)->port());
#ifndef TESSERA_COORDINATOR_HTTP_HTTP_SERVER_H_
#define TESSERA_COORDINATOR_HTTP_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/http/http_message.h"

namespace tessera::coordinator {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: chosen by the system
  size_t max_body_bytes = size_t{8} << 20;
  size_t max_bodies_bytes = size_t{256} << 20;  // of all requests being read or parsed
  size_t max_header_bytes = size_t{64} << 10;
  int max_connections = 16384;
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(30);  // between two reads; ten times that in all
  absl::Duration idle_timeout = absl::Minutes(2);
  absl::Duration write_timeout = absl::Seconds(30);
  absl::Duration linger_timeout = absl::Seconds(5);  // for the client to read a last answer
  std::vector<HttpHeader> headers = {};              // of every response
};

// A body that is made piece by piece. Called on the server's thread.
class HttpBodySource {
 public:
  virtual ~HttpBodySource() = default;
  // Appends what can be sent now, about 64 KiB at most (it is asked again when that is written), and
  // returns whether the body ends with it. Nothing appended and false: asked again after Wake.
  virtual bool Fill(std::string& out) = 0;
};

// Answers one request. Safe from any thread and after the server's end; what comes after the first
// answer, or after the client has left, is dropped.
class HttpResponder {
 public:
  virtual ~HttpResponder() = default;
  virtual void Send(HttpResponse response) = 0;
  // Starts a streamed answer; `head` without a body.
  virtual void Stream(HttpResponse head, std::shared_ptr<HttpBodySource> source) = 0;
  virtual void Wake() = 0;  // the source has more
  // `gone` is called once, on the server's thread or at once, if the client leaves before its answer
  // is complete; it is forgotten when the answer is complete.
  virtual void OnGone(std::function<void()> gone) = 0;
};

struct HttpHandlers {
  // Required.
  std::function<void(HttpRequest request, std::shared_ptr<HttpResponder> responder)> handle = {};
  // Called when a request's head is there, before its body is read: an answer refuses it.
  std::function<std::optional<HttpResponse>(const HttpRequest& head)> check_head = {};
  // The answer to what the server refuses itself; without it, the status alone.
  std::function<HttpResponse(int status, const std::string& message)> make_error = {};
};

class HttpServer {
 public:
  // UNAVAILABLE naming host and port when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           HttpHandlers handlers);
  virtual ~HttpServer() = default;  // Shutdown(0)

  virtual int port() const = 0;
  // Stops listening, waits up to `grace` for the answers under way, cuts the rest. No handler runs
  // after it returns. Not from a handler.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_HTTP_SERVER_H_
