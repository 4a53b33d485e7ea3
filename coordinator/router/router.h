// What doors submit to: requests and their ids are the router's, and it lets the engines of the
// worker groups compute them.
//
// An engine is made when a group joins, and goes when the group is lost. Each request goes to the
// engine where it is expected to end first (placement.h). One that was under way when its group was
// lost comes back here as far as it had come, and goes on with another group of the same model, or
// waits for one (stranded_requests.h): its client sees a pause, and the same tokens. Only a request
// that alone can have been why two groups died is not tried a third time.
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
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/group/group.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct ReplayOptions {
  // How long a request whose group was lost waits for another one.
  absl::Duration patience = absl::Seconds(60);
};

class Router : public GroupObserver {
 public:
  static std::unique_ptr<Router> Create(const EngineOptions& options,
                                        const ReplayOptions& replay = {});

  // Whether a request would be let in now: RESOURCE_EXHAUSTED with RetryInfo (queue), UNAVAILABLE
  // (draining, or no serving group and none that was lost so lately that another may come). Doors ask before they read a request, Submit before and after
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

  // The models that are served now, one for each name, in the order in which their groups joined;
  // or, while none is, the one for which a group may come again soon.
  virtual std::vector<std::shared_ptr<const ServedModel>> models() const = 0;
  std::shared_ptr<const ServedModel> model() const {  // the first, or null
    const auto all = models();
    return all.empty() ? nullptr : all.front();
  }
  virtual v1::GetClusterStatusResponse Status() const = 0;
  virtual bool serving() const = 0;  // a group serves and the router does not drain

  // Refuses new requests, lets the running ones end within `grace`, aborts the rest with
  // UNAVAILABLE, and shuts the groups down. Blocks meanwhile.
  virtual void Drain(absl::Duration grace) = 0;

  // No group will come any more: requests that wait for one fail now, and others as soon as they
  // have to wait. Until a group serves after all.
  virtual void GiveUp(const absl::Status& why) = 0;

  // Blocks until a group serves, has failed, or `timeout` passed.
  virtual absl::Status WaitServing(absl::Duration timeout) = 0;

  // `listener` is told at once and after every change whether a group serves (and the router does
  // not drain). Called under the router's lock: must not block or call back. Null: nobody listens.
  virtual void SetServingListener(std::function<void(bool serving)> listener) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ROUTER_ROUTER_H_
