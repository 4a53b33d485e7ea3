#include "coordinator/group/cluster_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/group/group_stream.h"
#include "coordinator/group/local_ranks.h"
#include "proto/wire/grpc_status.h"
#include "proto/base/host_port.h"
#include "proto/base/mutex.h"
#include "tessera/v1/cluster.grpc.pb.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kStopGrace = absl::Milliseconds(300);

// Join carries bytes, which GroupStream reads and writes itself.
using RpcService = v1::Cluster::WithRawCallbackMethod_Join<
    v1::Cluster::WithCallbackMethod_ReportRank<v1::Cluster::Service>>;

int Millis(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

class ClusterServiceImpl : public ClusterService,
                           public GroupRegistry,
                           public RpcService {
 public:
  ClusterServiceImpl(const ClusterServiceOptions& options, GroupObserver* observer)
      : options_(options), observer_(observer) {}

  ~ClusterServiceImpl() override {
    if (!server_) return;
    {
      MutexLock lock(&mu_);
      stopping_ = true;
    }
    for (const auto& group : Living()) group->Shutdown("the coordinator is going down");
    {
      const absl::Time limit = absl::Now() + options_.leave_timeout + kStopGrace;
      MutexLock lock(&mu_);
      while (!groups_.empty() && !released_.WaitWithDeadline(&mu_, limit)) {
      }
    }
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kStopGrace));
    MutexLock lock(&mu_);
    while (!streams_.empty()) released_.Wait(&mu_);
  }

  absl::Status Listen() {
    grpc::ServerBuilder builder;
    const std::string address = HostPort(options_.host, options_.port);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
    builder.SetMaxSendMessageSize(options_.max_message_bytes);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Millis(options_.keepalive));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Millis(options_.keepalive_timeout));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // Leaders ping as well; never answer that with GOAWAY too_many_pings.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 100);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    server_ = builder.BuildAndStart();
    if (!server_ || port_ == 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen for worker groups on ", address,
                                                 ": the port is in use or not allowed "
                                                 "(--cluster-port)"));
    }
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void SetLauncher(const std::string& group_id, Launcher* launcher) override {
    local_ranks_.SetLauncher(group_id, launcher);
  }

  // v1::Cluster
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Join(
      grpc::CallbackServerContext* context) override {
    GroupStream* stream = GroupStream::Begin(options_, this, observer_, context->peer());
    MutexLock lock(&mu_);
    streams_.insert(stream);
    return stream;
  }

  grpc::ServerUnaryReactor* ReportRank(grpc::CallbackServerContext* context,
                                       const v1::RankReport* report,
                                       v1::RankReportReply*) override {
    const std::shared_ptr<GroupStream> group = Find(report->group_id());
    const absl::Status status =
        group != nullptr ? group->Report(*report) : absl::NotFoundError("no such group");
    if (status.ok()) local_ranks_.Add(*report);
    auto* reactor = context->DefaultReactor();
    reactor->Finish(wire::ToGrpc(status));
    return reactor;
  }

  // GroupRegistry
  absl::Status Claim(const v1::Hello& hello, std::shared_ptr<GroupStream> stream) override {
    MutexLock lock(&mu_);
    if (stopping_) return absl::UnavailableError("the coordinator is going down");
    if (groups_.emplace(hello.group_id(), std::move(stream)).second) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("a worker group of this id (", hello.group_id(), ") has joined already"));
  }

  void Release(GroupStream* stream) override {
    std::shared_ptr<GroupStream> released;  // perhaps its end: not with the lock held
    MutexLock lock(&mu_);
    const auto group = groups_.find(stream->group_id());
    if (group != groups_.end() && group->second.get() == stream) {
      local_ranks_.Forget(stream->group_id());
      released = std::move(group->second);
      groups_.erase(group);
    }
    streams_.erase(stream);
    released_.SignalAll();
  }

 private:
  std::vector<std::shared_ptr<GroupStream>> Living() {
    std::vector<std::shared_ptr<GroupStream>> living;
    MutexLock lock(&mu_);
    for (const auto& [id, group] : groups_) living.push_back(group);
    return living;
  }
  std::shared_ptr<GroupStream> Find(const std::string& group_id) {
    MutexLock lock(&mu_);
    const auto found = groups_.find(group_id);
    return found == groups_.end() ? nullptr : found->second;
  }

  const ClusterServiceOptions options_;
  GroupObserver* const observer_;
  LocalRanks local_ranks_;
  int port_ = 0;

  Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  CondVar released_;  // a stream
  std::map<std::string, std::shared_ptr<GroupStream>> groups_ ABSL_GUARDED_BY(mu_);  // by group id
  std::set<GroupStream*> streams_ ABSL_GUARDED_BY(mu_);  // whose OnDone is still to come

  std::unique_ptr<grpc::Server> server_;  // last: gone before anything its reactions touch
};

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterService>> ClusterService::Start(
    const ClusterServiceOptions& options, GroupObserver* observer) {
  auto service = std::make_unique<ClusterServiceImpl>(options, observer);
  if (absl::Status status = service->Listen(); !status.ok()) return status;
  return service;
}

}  // namespace tessera::coordinator
