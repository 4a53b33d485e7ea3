// What every door (gRPC, HTTP) opens onto: requests checked, turned into tokens and handed to the
// router; answers streamed into a sink. A door only translates.
//
// Safe from any thread; every call returns at once. Long texts, templates and grammars are worked on
// in a text worker's threads (short ones on the caller's thread).
//
//   auto door = FrontDoor::Create({.router = router, .metrics = metrics});  // both outlive it
//   std::shared_ptr<FrontDoor::Call> call = door->Chat(std::move(request), caller, sink);
//   call->Cancel();                      // the client left
#ifndef TESSERA_COORDINATOR_FRONT_FRONT_DOOR_H_
#define TESSERA_COORDINATOR_FRONT_FRONT_DOOR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/front/text_worker.h"
#include "coordinator/router/router.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Who asks, as the door made out (access.h).
struct Caller {
  std::string tenant;  // empty: the default tenant
  absl::Time deadline = absl::InfiniteFuture();
};

class FrontDoor {
 public:
  struct Options {
    Router* router = nullptr;
    Metrics* metrics = nullptr;  // null: not counted
    // That the doors share, stopped by the front door's destructor. Null: one of its own.
    std::shared_ptr<TextWorker> worker = nullptr;
  };

  // A request under way. Cancel may come at any time and any number of times; the sink hears nothing
  // after it. Dropping the pointer changes nothing.
  class Call {
   public:
    virtual ~Call() = default;
    virtual void Cancel() = 0;
  };

  template <typename Response>
  using Answer = std::function<void(absl::StatusOr<Response>)>;  // once, on any thread

  static std::unique_ptr<FrontDoor> Create(const Options& options);
  // Waits for the work under way in the text worker's threads.
  virtual ~FrontDoor() = default;

  // Refusals come through the sink's Fail, perhaps before the call returns: INVALID_ARGUMENT (names
  // the field), NOT_FOUND (model), RESOURCE_EXHAUSTED with RetryInfo, UNAVAILABLE,
  // DEADLINE_EXCEEDED, ALREADY_EXISTS (a live request_id of the same tenant).
  virtual std::shared_ptr<Call> Generate(v1::GenerateRequest request, const Caller& caller,
                                         std::shared_ptr<TokenSink> sink) = 0;
  virtual std::shared_ptr<Call> Chat(v1::ChatRequest request, const Caller& caller,
                                     std::shared_ptr<TokenSink> sink) = 0;
  virtual std::shared_ptr<Call> Score(v1::ScoreRequest request, const Caller& caller,
                                      Answer<v1::ScoreResponse> answer) = 0;
  virtual void Tokenize(v1::TokenizeRequest request, Answer<v1::TokenizeResponse> answer) = 0;
  virtual void Detokenize(v1::DetokenizeRequest request, Answer<v1::DetokenizeResponse> answer) = 0;

  virtual absl::Status Abort(const Caller& caller, const std::string& request_id) = 0;
  virtual v1::ListModelsResponse ListModels() const = 0;
  virtual v1::GetClusterStatusResponse ClusterStatus() const = 0;
  virtual bool serving() const = 0;
  // Of the chat prompt, for /tokenize with messages: the ids Chat would send.
  virtual void TokenizeChat(v1::ChatRequest request, Answer<v1::TokenizeResponse> answer) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_FRONT_DOOR_H_
