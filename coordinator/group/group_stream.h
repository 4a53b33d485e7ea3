// One group's Join stream, from the leader's first byte to the last: internal to ClusterService.
//
// The stream keeps itself alive until gRPC is done with it. Everything the leader sends is checked
// here; the registry keeps the living groups and finds them again for ReportRank. Messages travel as
// bytes: a plan is written straight from where the scheduler keeps it, without a copy in between.
//
//   awaiting hello ──Hello──▶ loading ──Ready──▶ serving ──▶ ended
#ifndef TESSERA_COORDINATOR_GROUP_GROUP_STREAM_H_
#define TESSERA_COORDINATOR_GROUP_GROUP_STREAM_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/group/cluster_service.h"
#include "coordinator/group/group.h"
#include "proto/base/mutex.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

class GroupStream;

// The groups that live now. Called by streams without their locks held.
class GroupRegistry {
 public:
  virtual ~GroupRegistry() = default;
  virtual absl::Status Claim(const v1::Hello& hello, std::shared_ptr<GroupStream> stream) = 0;
  virtual void Release(GroupStream* stream) = 0;  // after OnLost has returned
};

class GroupStream : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                    public GroupTransport,
                    public std::enable_shared_from_this<GroupStream> {
 public:
  // Registry and observer outlive the stream.
  static GroupStream* Begin(const ClusterServiceOptions& options, GroupRegistry* registry,
                            GroupObserver* observer, std::string peer);

  absl::Status SendPlan(const v1::StepPlan& plan) override;
  void Shutdown(const std::string& reason) override;
  void Abandon(const std::string& reason) override { End(absl::UnavailableError(reason)); }

  absl::Status Report(const v1::RankReport& report);
  const std::string& group_id() const { return group_id_; }  // after Claim

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Phase { kAwaitingHello, kLoading, kServing };

  GroupStream(const ClusterServiceOptions& options, GroupRegistry* registry,
              GroupObserver* observer, std::string peer)
      : options_(options), registry_(registry), observer_(observer), peer_(std::move(peer)) {}

  absl::Status Handle();  // the message just read
  absl::Status HandleResult();
  absl::Status HandleHello(const v1::Hello& hello);
  absl::Status HandleReady();
  absl::Status HandleFailure(const v1::GroupFailure& failure);

  // Ends the stream; the first reason counts. `why` also goes to the leader.
  void End(const absl::Status& why);
  absl::Status Queue(const v1::CoordinatorMessage& message);
  absl::Status QueueBytes(grpc::ByteBuffer message);
  void StartNextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetAlarm(absl::Duration after, const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status WhyLost();

  const ClusterServiceOptions options_;
  GroupRegistry* const registry_;
  GroupObserver* const observer_;
  const std::string peer_;
  std::shared_ptr<GroupStream> self_;  // until OnDone

  // Touched by read reactions only, which gRPC serializes.
  grpc::ByteBuffer incoming_bytes_;
  v1::GroupMessage incoming_;  // used again for its memory
  Phase phase_ = Phase::kAwaitingHello;
  std::string group_id_;
  int world_size_ = 0;

  // Held while the observer is called, so that its calls come one at a time. Never taken with mu_
  // held.
  Mutex observer_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  std::optional<GroupHandle> joined_ ABSL_GUARDED_BY(observer_mu_);  // from OnJoin to OnLost
  std::string rank_failure_ ABSL_GUARDED_BY(observer_mu_);  // what the first FAILED rank said

  Mutex mu_;
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mu_);  // front is being written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;   // Finish was called
  bool shutdown_ ABSL_GUARDED_BY(mu_) = false;   // Shutdown was asked for
  absl::Status why_ ABSL_GUARDED_BY(mu_);        // why Finish was called
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GROUP_GROUP_STREAM_H_
