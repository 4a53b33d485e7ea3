// The leader's stream to the coordinator, and the engine's StepChannel over it.
//
// gRPC's threads only queue what arrives; the engine thread takes plans out and puts results in, and
// never waits for the network. The link ends once: by a Shutdown from the coordinator, by SendFailure
// or Close, or by the loss of the stream.
//
//   ClusterLink link({.coordinator = "127.0.0.1:50052"}, on_end);
//   TESSERA_ASSIGN_OR_RETURN(v1::ShardPlan plan, link.Join(hello));
//   TESSERA_RETURN_IF_ERROR(link.SendReady());
//   engine->Serve(&link);
//   link.Close(absl::Milliseconds(500));
#ifndef TESSERA_WORKER_GROUP_CLUSTER_LINK_H_
#define TESSERA_WORKER_GROUP_CLUSTER_LINK_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/engine/rank_engine.h"

namespace tessera::worker {

struct ClusterLinkOptions {
  std::string coordinator;                             // HOST:PORT
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration plan_timeout = absl::Seconds(60);     // from Hello to ShardPlan
};

class ClusterLink : public StepChannel {
 public:
  // CANCELLED: the coordinator asked for an orderly end; otherwise the stream broke. Called at most
  // once, on one of gRPC's threads, after Join has returned a plan.
  using EndCallback = std::function<void(const absl::Status& why)>;

  ClusterLink(const ClusterLinkOptions& options, EndCallback on_end);
  // Cancels a stream that is still open.
  ~ClusterLink() override;

  // Connects, says hello, waits for the plan. UNAVAILABLE when the coordinator is not there in
  // time; whatever the coordinator answered when it turned the group away.
  absl::StatusOr<v1::ShardPlan> Join(const v1::Hello& hello);
  absl::Status SendReady();
  // Best effort: returns once the coordinator has read it, or after `patience`. From now on NextPlan
  // answers CANCELLED.
  void SendFailure(int world_rank, const std::string& message, absl::Duration patience);

  // Half-closes the stream and waits for the coordinator to do the same.
  void Close(absl::Duration patience);

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override;
  absl::Status SendResult(v1::StepResult result) override;

 private:
  class Stream;
  const ClusterLinkOptions options_;
  const std::shared_ptr<Stream> stream_;
  bool opened_ = false;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_CLUSTER_LINK_H_
