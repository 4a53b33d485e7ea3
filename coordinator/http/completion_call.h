// One /v1/completions or /v1/chat/completions request under way: the front door's chunks, from any
// thread, become a whole answer or a stream that is made as the client reads.
//
// The head is sent with the first chunk, so that a refusal has its own status; a failure after it is
// an error event. A client too slow for what is held for it (front/held_chunks.h) loses its stream,
// an answer over kWholeBytes has to be streamed. A client that leaves cancels its calls.
//
//   CompletionCall::Start(std::move(request), {.front = front, .worker = worker, .caller = caller},
//                         responder);
#ifndef TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_
#define TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/front/front_door.h"
#include "coordinator/front/held_chunks.h"
#include "coordinator/front/text_worker.h"
#include "coordinator/http/http_server.h"
#include "coordinator/openai/answer.h"
#include "coordinator/openai/request.h"
#include "proto/base/mutex.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class CompletionCall final : public HttpBodySource,
                             public std::enable_shared_from_this<CompletionCall> {
 public:
  static constexpr size_t kWholeBytes = size_t{64} << 20;

  struct Context {
    FrontDoor* front = nullptr;  // outlives its own calls
    std::shared_ptr<TextWorker> worker;
    Caller caller;
  };
  static void Start(OpenAiRequest request, Context context,
                    std::shared_ptr<HttpResponder> responder);

  bool Fill(std::string& out) override;

 private:
  class Sink;
  using Calls = std::vector<std::shared_ptr<FrontDoor::Call>>;

  CompletionCall(const AnswerStyle& style, Context context, std::shared_ptr<HttpResponder> responder);
  void StartPrompt(int prompt, v1::GenerateRequest request);
  void Track(std::shared_ptr<FrontDoor::Call> call);
  void Accept(int prompt, v1::GenerateResponse chunk, bool last) {
    stream_ ? Hold(prompt, std::move(chunk), last) : Collect(prompt, std::move(chunk), last);
  }
  void Hold(int prompt, v1::GenerateResponse chunk, bool last);
  void Collect(int prompt, v1::GenerateResponse chunk, bool last);
  // Whether all prompts have ended with this one; then the calls are `done`.
  bool EndPrompt(Calls* done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(const absl::Status& why);
  void Leave();
  void SendWhole(size_t bytes);
  bool over();

  const Context context_;
  const bool stream_;
  const std::string id_;
  const std::shared_ptr<HttpResponder> responder_;
  OpenAiAnswer answer_;  // stream: of Fill's thread; whole: under mu_, until it is over

  Mutex mu_;
  Calls calls_ ABSL_GUARDED_BY(mu_);
  HeldChunks held_ ABSL_GUARDED_BY(mu_);         // stream
  size_t whole_bytes_ ABSL_GUARDED_BY(mu_) = 0;  // whole
  int live_prompts_ ABSL_GUARDED_BY(mu_);
  bool head_sent_ ABSL_GUARDED_BY(mu_) = false;
  bool over_ ABSL_GUARDED_BY(mu_) = false;  // nothing more is accepted
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_COMPLETION_CALL_H_
