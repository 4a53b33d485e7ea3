// A Generate or Chat under way: between the door's sink and the router.
//
// The loop holds it as its sink, the door as its Call; it lets go of the door's sink when it ends,
// whichever way, so that neither keeps the other alive.
//
//   auto call = std::make_shared<StreamCall>(context, caller, sink);
//   if (auto s = call->Register(id); !s.ok()) call->Refuse(s);
//   call->Begin(std::move(prepared));
#ifndef TESSERA_COORDINATOR_FRONT_STREAM_CALL_H_
#define TESSERA_COORDINATOR_FRONT_STREAM_CALL_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/front/live_call.h"
#include "coordinator/router/router.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class StreamCall final : public LiveCall, public TokenSink {
 public:
  StreamCall(std::shared_ptr<CallContext> context, const Caller& caller,
             std::shared_ptr<TokenSink> sink);

  // Submits; a refusal goes to the sink. Nothing happens when it was cancelled.
  void Begin(PreparedRequest request);

  void Cancel() override;
  void Abort() override;
  void Refuse(const absl::Status& why) override;
  bool cancelled() override;

  // What the loop says.
  void Push(v1::GenerateResponse chunk) override;
  void Finish(v1::GenerateResponse last) override;
  void Fail(absl::Status why) override;

 private:
  absl::Status Submit(PreparedRequest request);
  std::shared_ptr<TokenSink> sink();
  // Null when the call has ended already. Whoever gets it says the last word.
  std::shared_ptr<TokenSink> TakeSink();

  Mutex mu_;
  std::shared_ptr<TokenSink> sink_ ABSL_GUARDED_BY(mu_);  // null once the call has ended
  std::optional<int64_t> id_ ABSL_GUARDED_BY(mu_);        // the router's, once submitted
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_STREAM_CALL_H_
