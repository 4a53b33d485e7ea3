// A client's request from the door to its end, and where they are all found by request id.
//
// A call is registered under (tenant, request id) from Register until Ended; the same pair again is
// refused meanwhile, and Abort finds the call by it. Any thread.
//
//   TESSERA_RETURN_IF_ERROR(call->Register(request.request_id()));
//   ...
//   Ended();     // once, however it ends
#ifndef TESSERA_COORDINATOR_FRONT_LIVE_CALL_H_
#define TESSERA_COORDINATOR_FRONT_LIVE_CALL_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/front/front_door.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/router/router.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class LiveCall;

class CallRegistry {
 public:
  // ALREADY_EXISTS for a key that is there.
  absl::Status Add(const std::string& key, const std::weak_ptr<LiveCall>& call);
  void Remove(const std::string& key);
  std::shared_ptr<LiveCall> Find(const std::string& key);  // null: none

 private:
  Mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<LiveCall>> calls_ ABSL_GUARDED_BY(mu_);
};

// What all calls of one front door share. Calls may outlive the front door, but neither loop nor
// metrics.
struct CallContext {
  Router* router = nullptr;
  Metrics* metrics = nullptr;  // null: not counted
  CallRegistry registry;
};

class LiveCall : public FrontDoor::Call, public std::enable_shared_from_this<LiveCall> {
 public:
  LiveCall(std::shared_ptr<CallContext> context, const Caller& caller);
  ~LiveCall() override;

  // An empty `request_id` gets one drawn. INVALID_ARGUMENT for one that is too long.
  absl::Status Register(const std::string& request_id);

  // Ends with CANCELLED, which the client hears.
  virtual void Abort() = 0;
  // Ends before the loop had it. Nothing happens when it was cancelled.
  virtual void Refuse(const absl::Status& why) = 0;
  virtual bool cancelled() = 0;  // what it needs is not worth making any more

  const std::string& request_id() const { return request_id_; }
  const Caller& caller() const { return caller_; }
  absl::Time arrival() const { return arrival_; }

 protected:
  // The registry forgets it.
  void Ended();
  void CountRefusal(const absl::Status& why) const;
  Router* router() const { return context_->router; }

 private:
  const std::shared_ptr<CallContext> context_;
  const Caller caller_;
  const absl::Time arrival_;
  std::string request_id_;
  bool registered_ = false;  // Register succeeded
};

std::string CallKey(const std::string& tenant, const std::string& request_id);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_LIVE_CALL_H_
