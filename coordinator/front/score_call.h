// A Score under way: every continuation is a request of its own to the router (they share the
// prompt's KV blocks); the answer comes when the last one is done, or the first one has failed.
//
//   auto call = std::make_shared<ScoreCall>(context, caller, answer);
//   call->Begin(std::move(parts), top_logprobs);
#ifndef TESSERA_COORDINATOR_FRONT_SCORE_CALL_H_
#define TESSERA_COORDINATOR_FRONT_SCORE_CALL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/front/live_call.h"
#include "coordinator/router/router.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class ScoreCall final : public LiveCall {
 public:
  ScoreCall(std::shared_ptr<CallContext> context, const Caller& caller,
            FrontDoor::Answer<v1::ScoreResponse> answer);

  void Begin(std::vector<PreparedRequest> parts, int top_logprobs);

  void Cancel() override;
  void Abort() override;
  void Refuse(const absl::Status& why) override;
  bool cancelled() override;

 private:
  class Part;  // the engine's sink of one continuation

  absl::Status Submit(std::vector<PreparedRequest> parts);
  void PartDone(size_t part, v1::GenerateResponse message);
  // The call ends with `why`, if it has not yet, and the parts that are left are called back.
  void End(const absl::Status& why, bool refused);
  FrontDoor::Answer<v1::ScoreResponse> TakeAnswer();

  Mutex mu_;
  // Null once the call has ended.
  FrontDoor::Answer<v1::ScoreResponse> answer_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> ids_ ABSL_GUARDED_BY(mu_);  // the router's
  v1::ScoreResponse response_ ABSL_GUARDED_BY(mu_);
  size_t missing_ ABSL_GUARDED_BY(mu_) = 0;
  int top_logprobs_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_SCORE_CALL_H_
