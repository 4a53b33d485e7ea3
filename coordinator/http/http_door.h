// The OpenAI-compatible HTTP door: /v1/models, /v1/completions, /v1/chat/completions, /tokenize,
// /detokenize, /health, /version, /metrics.
//
// Boost.Beast on one thread, C++20 coroutines, in http_server.cc alone; everything else here is
// JSON ↔ the gRPC messages and runs without a socket. Keep-alive, chunked bodies, server-sent events
// written as the client reads (a bounded buffer per stream), a deadline on every read and write, a
// bound on headers, bodies and connections.
//
//   TESSERA_ASSIGN_OR_RETURN(auto door, HttpDoor::Start({.port = 8000}, context));
//   print(door->port());
//   door->Shutdown(absl::Seconds(1));
#ifndef TESSERA_COORDINATOR_HTTP_HTTP_DOOR_H_
#define TESSERA_COORDINATOR_HTTP_HTTP_DOOR_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/front/access.h"
#include "coordinator/front/front_door.h"
#include "coordinator/front/text_worker.h"
#include "coordinator/engine/metrics.h"

namespace tessera::coordinator {

struct HttpDoorOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: chosen by the system
  size_t max_body_bytes = size_t{8} << 20;  // a million tokens of eight bytes
  size_t max_header_bytes = size_t{64} << 10;
  int max_connections = 16384;
  absl::Duration header_timeout = absl::Seconds(10);  // a request's head, from its first byte
  absl::Duration body_timeout = absl::Seconds(30);    // between two reads of a body
  absl::Duration idle_timeout = absl::Minutes(2);     // between requests of a connection
  absl::Duration write_timeout = absl::Seconds(30);   // a client that reads nothing
};

// All borrowed; they outlive the door.
struct HttpDoorContext {
  FrontDoor* front = nullptr;
  const Access* access = nullptr;
  const Metrics* metrics = nullptr;
  std::shared_ptr<TextWorker> worker = nullptr;  // the front door's too; null: one of its own
};

class HttpDoor {
 public:
  // UNAVAILABLE naming host, port and flag when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpDoor>> Start(const HttpDoorOptions& options,
                                                         const HttpDoorContext& context);
  // Shuts down at once if Shutdown has not been called.
  virtual ~HttpDoor() = default;

  virtual int port() const = 0;
  // Stops listening; streams still open after `grace` are cut.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_HTTP_DOOR_H_
