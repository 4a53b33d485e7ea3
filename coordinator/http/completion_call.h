// One /v1/completions or /v1/chat/completions request under way: the front door's chunks, from any
// thread, become a whole answer or a stream that is made as the client reads.
//
// The head is sent with the first chunk, so that a refusal has its own status; a failure after it is
// an error event. A client that reads so slowly that kHeldBytes wait loses its stream, an answer over
// kWholeBytes has to be streamed. A client that leaves cancels its calls.
//
//   CompletionCall::Start(std::move(request), {.front = front, .worker = worker, .caller = caller},
//                         responder);
#ifndef TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_
#define TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/front/front_door.h"
#include "coordinator/http/http_server.h"
#include "coordinator/openai/answer.h"
#include "coordinator/openai/request.h"
#include "coordinator/http/shared_worker.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class CompletionCall final : public HttpBodySource,
                             public std::enable_shared_from_this<CompletionCall> {
 public:
  static constexpr size_t kHeldBytes = size_t{4} << 20;
  static constexpr size_t kWholeBytes = size_t{64} << 20;

  struct Context {
    FrontDoor* front = nullptr;  // outlives its own calls
    std::shared_ptr<SharedWorker> worker;
    Caller caller;
  };
  static void Start(CompletionRequest request, Context context,
                    std::shared_ptr<HttpResponder> responder);

  bool Fill(std::string& out) override;

 private:
  class Sink;
  using Calls = std::vector<std::shared_ptr<FrontDoor::Call>>;

  CompletionCall(AnswerStyle style, Context context, std::shared_ptr<HttpResponder> responder);
  void StartPrompt(int prompt, v1::GenerateRequest request);
  void Track(std::shared_ptr<FrontDoor::Call> call);
  void Accept(int prompt, v1::GenerateResponse chunk, bool last);
  void Fail(const absl::Status& why);
  void Leave();
  void SendWhole(size_t bytes);
  bool over();

  struct Pending {
    int prompt;
    v1::GenerateResponse chunk;
    size_t bytes;
  };

  const Context context_;
  const bool stream_;
  const std::string id_;
  const std::shared_ptr<HttpResponder> responder_;
  OpenAiAnswer answer_;  // stream: of Fill's thread; whole: under mu_

  std::mutex mu_;
  Calls calls_;
  std::deque<Pending> pending_;
  size_t held_bytes_ = 0;
  int live_prompts_;
  bool head_sent_ = false;
  bool over_ = false;  // nothing more is accepted
  absl::Status failed_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_
