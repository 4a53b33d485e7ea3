#include "worker/group/cluster_link.h"

#include <chrono>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "proto/wire/grpc_status.h"
#include "tessera/v1/cluster.grpc.pb.h"
#include "worker/group/cluster_channel.h"

namespace tessera::worker {
namespace {

// Plans and results are bounded by the steps in flight, a handful; more means a peer gone wrong.
constexpr size_t kMaxQueued = 256;
constexpr absl::Duration kCancelPatience = absl::Seconds(1);

}  // namespace

// Keeps itself alive until gRPC is done with it.
class ClusterLink::Stream
    : public grpc::ClientBidiReactor<v1::GroupMessage, v1::CoordinatorMessage>,
      public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<grpc::Channel> channel, EndCallback on_end)
      : channel_(std::move(channel)),
        stub_(v1::Cluster::NewStub(channel_)),
        on_end_(std::move(on_end)) {}

  bool WaitForConnection(std::chrono::system_clock::time_point deadline) {
    return channel_->WaitForConnected(deadline);
  }

  void Open() {
    self_ = shared_from_this();
    {
      MutexLock lock(&mu_);
      broken_ = false;
    }
    stub_->async()->Join(&context_, this);
    AddHold();  // writes start outside of reactions; let go in OnReadDone
    StartRead(&incoming_);
    StartCall();
  }

  void Cancel() {
    context_.TryCancel();
    AwaitDone(kCancelPatience);
  }

  absl::Status Send(v1::GroupMessage message) {
    MutexLock lock(&mu_);
    return Queue(std::move(message));
  }

  // In one piece: as soon as the engine sees the end it may close the stream.
  absl::Status SendAndEnd(v1::GroupMessage message, const absl::Status& why) {
    MutexLock lock(&mu_);
    absl::Status queued = Queue(std::move(message));
    if (!ending_) {
      ending_ = ended_ = true;
      end_ = why;
      changed_.SignalAll();
    }
    return queued;
  }

  absl::StatusOr<v1::ShardPlan> AwaitPlan(absl::Duration patience) {
    MutexLock lock(&mu_);
    const absl::Time deadline = absl::Now() + patience;
    while (!HasPlanOrEnded() && !changed_.WaitWithDeadline(&mu_, deadline)) {
    }
    if (!HasPlanOrEnded()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the coordinator sent no plan within ", absl::FormatDuration(patience)));
    }
    if (ended_) return end_;
    joined_ = true;
    return *plan_;
  }

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) {
    MutexLock lock(&mu_);
    if (wait > absl::ZeroDuration()) {
      const absl::Time deadline = absl::Now() + wait;
      while (!HasStepOrEnded() && !changed_.WaitWithDeadline(&mu_, deadline)) {
      }
    }
    // Nothing is wrong with the group itself: whatever ended the stream, it ends in order.
    if (ended_) return absl::CancelledError(end_.message());
    if (steps_.empty()) return std::optional<v1::StepPlan>();
    std::optional<v1::StepPlan> next(std::move(steps_.front()));
    steps_.pop_front();
    return next;
  }

  // The first end counts; `quietly`: the caller knows already.
  void End(const absl::Status& why, bool quietly) {
    bool tell = false;
    {
      MutexLock lock(&mu_);
      if (ending_) return;
      ending_ = true;
      tell = joined_ && !quietly && on_end_;
    }
    if (tell) on_end_(why);  // before the engine can see the end and leave
    MutexLock lock(&mu_);
    ended_ = true;
    end_ = why;
    changed_.SignalAll();
  }

  void HalfClose() {
    MutexLock lock(&mu_);
    if (broken_ || half_closed_) return;
    half_closed_ = true;
    if (!writing_) StartWritesDone();
  }

  void AwaitDone(absl::Duration patience) {
    MutexLock lock(&mu_);
    const absl::Time deadline = absl::Now() + patience;
    while (!done_ && !changed_.WaitWithDeadline(&mu_, deadline)) {
    }
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        MutexLock lock(&mu_);
        broken_ = true;
      }
      RemoveHold();
      return;
    }
    if (absl::Status status = Take(); !status.ok()) {
      End(status, /*quietly=*/false);
      context_.TryCancel();
    }
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    outgoing_.pop_front();
    if (!ok || broken_) return;  // a failed read follows
    if (!outgoing_.empty()) {
      StartNextWrite();
    } else if (half_closed_) {
      StartWritesDone();
    }
  }

  void OnDone(const grpc::Status& status) override {
    const auto self = std::move(self_);
    bool joined;
    {
      MutexLock lock(&mu_);
      joined = joined_;
    }
    absl::Status why = wire::FromGrpc(status);
    if (why.ok()) why = absl::UnavailableError("the coordinator closed the stream");
    if (joined) {
      why = absl::UnavailableError(absl::StrCat("lost the coordinator: ", why.message()));
    }
    End(why, /*quietly=*/false);
    MutexLock lock(&mu_);
    done_ = true;
    changed_.SignalAll();
  }

 private:
  absl::Status Take() {
    switch (incoming_.body_case()) {
      case v1::CoordinatorMessage::kShardPlan: {
        MutexLock lock(&mu_);
        if (plan_) return absl::FailedPreconditionError("the coordinator sent a second plan");
        plan_ = std::move(*incoming_.mutable_shard_plan());
        changed_.SignalAll();
        return absl::OkStatus();
      }
      case v1::CoordinatorMessage::kStepPlan: {
        MutexLock lock(&mu_);
        if (steps_.size() >= kMaxQueued) {
          return absl::ResourceExhaustedError(
              absl::StrCat("the coordinator sent ", steps_.size(), " steps ahead"));
        }
        steps_.push_back(std::move(*incoming_.mutable_step_plan()));
        changed_.SignalAll();
        return absl::OkStatus();
      }
      case v1::CoordinatorMessage::kShutdown:
        End(absl::CancelledError(incoming_.shutdown().reason()), /*quietly=*/false);
        return absl::OkStatus();
      case v1::CoordinatorMessage::BODY_NOT_SET: break;
    }
    return absl::InvalidArgumentError("the coordinator sent a message without a known body");
  }

  absl::Status Queue(v1::GroupMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (broken_ || half_closed_) {
      return absl::UnavailableError("the stream to the coordinator is closed");
    }
    if (outgoing_.size() >= kMaxQueued) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the coordinator has not taken ", outgoing_.size(), " messages"));
    }
    outgoing_.push_back(std::move(message));
    if (!writing_) StartNextWrite();
    return absl::OkStatus();
  }

  void StartNextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    writing_ = true;
    StartWrite(&outgoing_.front());
  }

  bool HasPlanOrEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return plan_.has_value() || ended_;
  }
  bool HasStepOrEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !steps_.empty() || ended_;
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Cluster::Stub> stub_;
  const EndCallback on_end_;
  grpc::ClientContext context_;
  std::shared_ptr<Stream> self_;
  v1::CoordinatorMessage incoming_;  // read reactions only

  Mutex mu_;
  CondVar changed_;                                             // plan_, steps_, ended_, done_
  std::deque<v1::GroupMessage> outgoing_ ABSL_GUARDED_BY(mu_);  // front is being written
  std::deque<v1::StepPlan> steps_ ABSL_GUARDED_BY(mu_);
  std::optional<v1::ShardPlan> plan_ ABSL_GUARDED_BY(mu_);
  bool joined_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = true;  // no writes: not open yet, or no more
  bool ending_ ABSL_GUARDED_BY(mu_) = false;  // on_end_ is being told
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

ClusterLink::ClusterLink(const ClusterLinkOptions& options, EndCallback on_end)
    : options_(options),
      stream_(std::make_shared<Stream>(MakeClusterChannel(options.coordinator),
                                       std::move(on_end))) {}

ClusterLink::~ClusterLink() {
  if (!opened_) return;
  stream_->End(absl::CancelledError("the link is closed"), /*quietly=*/true);
  stream_->Cancel();
}

absl::StatusOr<v1::ShardPlan> ClusterLink::Join(const v1::Hello& hello) {
  const auto deadline =
      std::chrono::system_clock::now() + absl::ToChronoMilliseconds(options_.connect_timeout);
  if (!stream_->WaitForConnection(deadline)) {
    return absl::UnavailableError(absl::StrCat(
        "no coordinator at ", options_.coordinator, " within ",
        absl::FormatDuration(options_.connect_timeout), " (--coordinator, --join-timeout)"));
  }
  opened_ = true;
  stream_->Open();
  v1::GroupMessage message;
  *message.mutable_hello() = hello;
  // A stream that is refused at once is explained by what AwaitPlan finds.
  stream_->Send(std::move(message)).IgnoreError();
  return stream_->AwaitPlan(options_.plan_timeout);
}

absl::Status ClusterLink::SendReady() {
  v1::GroupMessage message;
  message.mutable_ready();
  return stream_->Send(std::move(message));
}

void ClusterLink::SendFailure(int world_rank, const std::string& text, absl::Duration patience) {
  v1::GroupMessage message;
  message.mutable_failure()->set_world_rank(world_rank);
  message.mutable_failure()->set_message(text);
  // The coordinator ends the stream when it has read this: the only proof that it has.
  if (stream_->SendAndEnd(std::move(message), absl::CancelledError(text)).ok()) {
    stream_->AwaitDone(patience);
  }
}

void ClusterLink::Close(absl::Duration patience) {
  stream_->End(absl::CancelledError("the link is closed"), /*quietly=*/true);
  stream_->HalfClose();
  stream_->AwaitDone(patience);
}

absl::StatusOr<std::optional<v1::StepPlan>> ClusterLink::NextPlan(absl::Duration wait) {
  return stream_->NextPlan(wait);
}

absl::Status ClusterLink::SendResult(v1::StepResult result) {
  v1::GroupMessage message;
  *message.mutable_step_result() = std::move(result);
  return stream_->Send(std::move(message));
}

}  // namespace tessera::worker
