#include "coordinator/group/cluster_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/group/group_stream.h"
#include "proto/wire/grpc_status.h"
#include "proto/base/host_port.h"
#include "tessera/v1/cluster.grpc.pb.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kStopGrace = absl::Milliseconds(300);

int Millis(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

class ClusterServiceImpl : public ClusterService,
                           public GroupRegistry,
                           public v1::Cluster::CallbackService {
 public:
  ClusterServiceImpl(const ClusterServiceOptions& options, ObserverFactory factory)
      : options_(options), factory_(std::move(factory)) {}

  ~ClusterServiceImpl() override {
    if (!server_) return;
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
    }
    if (auto group = Living()) group->Shutdown("the coordinator is going down");
    {
      absl::MutexLock lock(&mu_);
      mu_.AwaitWithTimeout(absl::Condition(this, &ClusterServiceImpl::NoGroup),
                           options_.leave_timeout + kStopGrace);
    }
    server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kStopGrace));
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(this, &ClusterServiceImpl::NoStreams));
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

  // v1::Cluster
  grpc::ServerBidiReactor<v1::GroupMessage, v1::CoordinatorMessage>* Join(
      grpc::CallbackServerContext* context) override {
    GroupStream* stream = GroupStream::Begin(options_, this, context->peer());
    absl::MutexLock lock(&mu_);
    streams_.insert(stream);
    return stream;
  }

  grpc::ServerUnaryReactor* ReportRank(grpc::CallbackServerContext* context,
                                       const v1::RankReport* report,
                                       v1::RankReportReply*) override {
    auto group = Living();
    absl::Status status = group && group->group_id() == report->group_id()
                              ? group->Report(*report)
                              : absl::NotFoundError("no such group");
    auto* reactor = context->DefaultReactor();
    reactor->Finish(wire::ToGrpc(status));
    return reactor;
  }

  // GroupRegistry
  absl::StatusOr<std::shared_ptr<GroupObserver>> Claim(
      const v1::Hello& hello, std::shared_ptr<GroupStream> stream) override {
    {
      absl::MutexLock lock(&mu_);
      if (stopping_) return absl::UnavailableError("the coordinator is going down");
      if (group_) {
        return absl::AlreadyExistsError(
            absl::StrCat("this coordinator already has a worker group (", group_->group_id(),
                         "); one at a time"));
      }
      group_ = std::move(stream);
    }
    auto observer = factory_(hello);
    if (!observer) return absl::UnavailableError("this coordinator takes no worker group now");
    return observer;
  }

  void Release(GroupStream* stream) override {
    absl::MutexLock lock(&mu_);
    if (group_.get() == stream) group_.reset();
    streams_.erase(stream);
  }

 private:
  std::shared_ptr<GroupStream> Living() {
    absl::MutexLock lock(&mu_);
    return group_;
  }
  bool NoGroup() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return group_ == nullptr; }
  bool NoStreams() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return streams_.empty(); }

  const ClusterServiceOptions options_;
  const ObserverFactory factory_;
  int port_ = 0;

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<GroupStream> group_ ABSL_GUARDED_BY(mu_);  // the living one
  std::set<GroupStream*> streams_ ABSL_GUARDED_BY(mu_);      // whose OnDone is still to come

  std::unique_ptr<grpc::Server> server_;  // last: gone before anything its reactions touch
};

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterService>> ClusterService::Start(
    const ClusterServiceOptions& options, ObserverFactory factory) {
  auto service = std::make_unique<ClusterServiceImpl>(options, std::move(factory));
  if (absl::Status status = service->Listen(); !status.ok()) return status;
  return service;
}

}  // namespace tessera::coordinator
