// A client of a running `tessera serve`. Blocking calls; Cancel from any thread ends the call in
// progress. Errors come back as the server sent them, or say that nobody answered.
//
//   auto client = Client::Connect({.host_port = "127.0.0.1:50051"});
//   status = client->Generate(request, [](const v1::GenerateResponse& chunk) { ... });
#ifndef TESSERA_COORDINATOR_CLI_CLIENT_H_
#define TESSERA_COORDINATOR_CLI_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Where the server is, and who asks.
struct ServerAddress {
  std::string host_port = "127.0.0.1:50051";
  std::string api_key = {};  // empty: none is sent
  std::string tenant = {};   // likewise
};

class Client {
 public:
  using ChunkCallback = std::function<void(const v1::GenerateResponse&)>;

  // Connects with the first call.
  static std::unique_ptr<Client> Connect(const ServerAddress& server);
  virtual ~Client() = default;

  virtual absl::Status Generate(const v1::GenerateRequest& request,
                                const ChunkCallback& on_chunk) = 0;
  virtual absl::Status Chat(const v1::ChatRequest& request, const ChunkCallback& on_chunk) = 0;
  virtual absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request) = 0;
  virtual absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) = 0;
  virtual absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request) = 0;
  virtual absl::StatusOr<v1::ListModelsResponse> ListModels() = 0;
  virtual absl::StatusOr<v1::GetClusterStatusResponse> GetClusterStatus() = 0;

  // The call in progress, and no later one, ends with CANCELLED.
  virtual void Cancel() = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_CLIENT_H_
