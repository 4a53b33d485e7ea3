// Where worker groups join: the gRPC server of tessera.v1.Cluster.
//
// The observer hears of every group whose leader says hello, and decides which of them may stay. A
// group id lives once at a time. Whatever a peer sends is checked; a message out of order ends its
// group.
//
// Ownership: the service owns its server and its streams; the observer outlives it. Threads: Start
// and the destructor on any one thread; the observer is called from gRPC's threads, one call at a
// time per group.
//
//   auto service = ClusterService::Start({.port = 50052}, &router);
//   launch.coordinator = absl::StrCat("127.0.0.1:", (*service)->port());
//   (*service)->SetLauncher("group0.1", job.get());   // is told which of its processes are ranks
#ifndef TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_
#define TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/group/group.h"
#include "coordinator/group/launcher.h"
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

class ClusterService {
 public:
  // UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<ClusterService>> Start(const ClusterServiceOptions& options,
                                                               GroupObserver* observer);
  // Ends the living groups (their OnLost has been called before this returns) and stops listening.
  virtual ~ClusterService() = default;

  virtual int port() const = 0;

  // Who started a group: told the pids that its ranks on this host have reported and will report.
  // Null: nobody, which is to be said before the launcher goes.
  virtual void SetLauncher(const std::string& group_id, Launcher* launcher) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_CLUSTER_SERVICE_H_
