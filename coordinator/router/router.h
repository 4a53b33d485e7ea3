// What doors submit to: requests and their ids are the router's, and it lets the engines of the
// worker groups compute them.
//
// An engine is made when a group joins, and goes when the group is lost. Each request goes to the
// engine that the router chooses for it; one that was under way when its group was lost comes back
// to the router. One group at a time so far: a second one is turned away (CheckJoin), every request
// goes to the one engine there is (Choose), and one that comes back fails (OnUnfinished).
//
// Every method may be called from any thread, and as GroupObserver from the transports'.
//
//   auto router = Router::Create(options);
//   auto service = ClusterService::Start({}, router.get());
//   TESSERA_ASSIGN_OR_RETURN(const int64_t id, router->Submit(std::move(request), sink));
//   router->Cancel(id);
#ifndef TESSERA_COORDINATOR_ROUTER_ROUTER_H_
#define TESSERA_COORDINATOR_ROUTER_ROUTER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/group/group.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class Router : public GroupObserver {
 public:
  static std::unique_ptr<Router> Create(const EngineOptions& options);

  // Whether a request would be let in now: RESOURCE_EXHAUSTED with RetryInfo (queue), UNAVAILABLE
  // (no serving group or draining). Doors ask before they read a request, Submit before and after
  // it has checked one.
  virtual absl::Status CheckAdmission() const = 0;
  // The id for Cancel. As CheckAdmission; INVALID_ARGUMENT for what does not fit or is out of
  // range. The sink may hear of tokens before this returns.
  virtual absl::StatusOr<int64_t> Submit(PreparedRequest request,
                                         std::shared_ptr<TokenSink> sink) = 0;
  // The sink hears nothing more. Nothing happens when the request has ended.
  virtual void Cancel(int64_t id) = 0;
  // The same, but the sink hears of it: Fail(why).
  virtual void Abort(int64_t id, absl::Status why) = 0;

  // The model that is served now, or null.
  virtual std::shared_ptr<const ServedModel> model() const = 0;
  virtual v1::GetClusterStatusResponse Status() const = 0;
  virtual bool serving() const = 0;  // a group serves and the router does not drain

  // Refuses new requests, lets the running ones end within `grace`, aborts the rest with
  // UNAVAILABLE, and shuts the groups down. Blocks meanwhile.
  virtual void Drain(absl::Duration grace) = 0;

  // Blocks until a group serves, has failed, or `timeout` passed.
  virtual absl::Status WaitServing(absl::Duration timeout) = 0;

  // `listener` is told at once and after every change whether a group serves (and the router does
  // not drain). Called under the router's lock: must not block or call back. Null: nobody listens.
  virtual void SetServingListener(std::function<void(bool serving)> listener) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ROUTER_ROUTER_H_
