// Where worker groups join: the gRPC server of tessera.v1.Cluster.
//
// Every group's stream is handed to a GroupObserver that the factory makes when its leader says
// hello. One group lives at a time: a second one is turned away (ALREADY_EXISTS) until OnLost of the
// first has returned. Whatever a peer sends is checked; a message out of order ends its group.
//
// Ownership: the service owns its server and its streams; observers are shared with the factory's
// owner. Threads: Start and the destructor on any one thread; observers are called from gRPC's
// threads, one call at a time per group.
//
//   auto service = ClusterService::Start({.port = 50052}, [&](const v1::Hello&) { return loop; });
//   launch.coordinator = absl::StrCat("127.0.0.1:", (*service)->port());
#ifndef TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_
#define TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/group/group.h"
#include "proto/wire/protocol.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

struct ClusterServiceOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: chosen by the system
  // A connection that says nothing for `keepalive` is pinged, and is lost when the answer takes
  // longer than `keepalive_timeout`: a vanished host is noticed within their sum.
  absl::Duration keepalive = absl::Seconds(5);
  absl::Duration keepalive_timeout = absl::Seconds(5);
  absl::Duration hello_timeout = absl::Seconds(10);   // from the stream's start to its Hello
  absl::Duration leave_timeout = absl::Seconds(1.5);  // from Shutdown to the stream's end
  int max_queued_messages = 256;                      // per group, plans not yet on the wire
  int max_message_bytes = wire::kMaxGroupMessageBytes;
};

// The observer of the group that says this hello. Its OnLost is called only if its OnJoin accepted.
using ObserverFactory = std::function<std::shared_ptr<GroupObserver>(const v1::Hello& hello)>;

class ClusterService {
 public:
  // UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<ClusterService>> Start(const ClusterServiceOptions& options,
                                                               ObserverFactory factory);
  // Ends the living group (its OnLost has been called before this returns) and stops listening.
  virtual ~ClusterService() = default;

  virtual int port() const = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_
