#include "coordinator/group/group_stream.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/model/limits.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/protocol.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kMaxGroupIdBytes = 128;
constexpr size_t kMaxServedNameBytes = 256;
constexpr size_t kMaxReasonBytes = 2000;  // of a peer's error text
constexpr int kWriteBlockBytes = 64 << 10;

absl::Status CheckHello(const v1::Hello& hello) {
  if (hello.protocol_version() != wire::kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the worker group speaks cluster protocol ", hello.protocol_version(),
                     ", this coordinator speaks ", wire::kProtocolVersion));
  }
  if (hello.group_id().empty() || hello.group_id().size() > kMaxGroupIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("hello.group_id has ", hello.group_id().size(),
                                                   " bytes; expected 1 .. ", kMaxGroupIdBytes));
  }
  if (hello.world_size() < 1 || hello.world_size() > model::kMaxWorldSize) {
    return absl::InvalidArgumentError(absl::StrCat("hello.world_size is ", hello.world_size(),
                                                   "; expected 1 .. ", model::kMaxWorldSize));
  }
  if (hello.served_model_name().size() > kMaxServedNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("hello.served_model_name has ", hello.served_model_name().size(),
                     " bytes; expected at most ", kMaxServedNameBytes));
  }
  if (!hello.has_model()) return absl::InvalidArgumentError("hello.model is missing");
  return absl::OkStatus();
}

// A peer's error text as one bounded line.
std::string OneLine(std::string text) {
  if (text.size() > kMaxReasonBytes) text.resize(kMaxReasonBytes);
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

// A CoordinatorMessage that holds the plan, which is not copied into one: its field's tag and length
// stand before the plan's own bytes.
grpc::ByteBuffer MessageOf(const v1::StepPlan& plan) {
  using google::protobuf::internal::WireFormatLite;
  const size_t plan_bytes = plan.ByteSizeLong();
  const uint32_t length = static_cast<uint32_t>(plan_bytes);
  const uint32_t tag = WireFormatLite::MakeTag(v1::CoordinatorMessage::kStepPlanFieldNumber,
                                               WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  using google::protobuf::io::CodedOutputStream;
  const size_t bytes =
      CodedOutputStream::VarintSize32(tag) + CodedOutputStream::VarintSize32(length) + plan_bytes;
  grpc::ByteBuffer buffer;
  {
    grpc::ProtoBufferWriter writer(&buffer, kWriteBlockBytes, static_cast<int>(bytes));
    CodedOutputStream out(&writer);  // writes the last bytes when it goes
    out.WriteVarint32(tag);
    out.WriteVarint32(length);
    plan.SerializeWithCachedSizes(&out);
  }
  return buffer;
}

}  // namespace

GroupStream* GroupStream::Begin(const ClusterServiceOptions& options, GroupRegistry* registry,
                                GroupObserver* observer, std::string peer) {
  std::shared_ptr<GroupStream> stream(
      new GroupStream(options, registry, observer, std::move(peer)));
  stream->self_ = stream;
  {
    MutexLock lock(&stream->mu_);
    stream->SetAlarm(options.hello_timeout, "no hello from the group's leader in time");
  }
  stream->StartRead(&stream->incoming_bytes_);
  return stream.get();
}

absl::Status GroupStream::SendPlan(const v1::StepPlan& plan) {
  absl::Status queued = QueueBytes(MessageOf(plan));
  // A plan that was not sent would be waited for forever.
  if (absl::IsResourceExhausted(queued)) End(queued);
  return queued;
}

void GroupStream::Shutdown(const std::string& reason) {
  {
    MutexLock lock(&mu_);
    if (finished_ || shutdown_) return;
    shutdown_ = true;
    SetAlarm(options_.leave_timeout, "the group did not leave in time");
  }
  v1::CoordinatorMessage message;
  message.mutable_shutdown()->set_reason(reason);
  // A queue that is full or closed does not matter: the alarm ends the stream.
  Queue(message).IgnoreError();
}

absl::Status GroupStream::Report(const v1::RankReport& report) {
  if (report.world_rank() < 0 || report.world_rank() >= world_size_) {
    return absl::InvalidArgumentError(absl::StrCat("report.world_rank is ", report.world_rank(),
                                                   "; expected 0 .. ", world_size_ - 1));
  }
  std::string failure;
  {
    MutexLock lock(&observer_mu_);
    if (!joined_) return absl::NotFoundError("the group has ended");
    observer_->OnRankReport(*joined_, report);
    if (report.phase() == v1::RankReport::PHASE_FAILED) {
      failure = absl::StrCat("rank ", report.world_rank(), " on ", report.host(), ": ",
                             OneLine(report.error()));
      if (rank_failure_.empty()) rank_failure_ = failure;
    }
  }
  if (!failure.empty()) End(absl::UnavailableError(failure));
  return absl::OkStatus();
}

void GroupStream::OnReadDone(bool ok) {
  if (!ok) {
    End(WhyLost());
    return;
  }
  if (absl::Status status = Handle(); !status.ok()) {
    End(status);
    return;
  }
  StartRead(&incoming_bytes_);
}

void GroupStream::OnCancel() { End(WhyLost()); }

absl::Status GroupStream::WhyLost() {
  return absl::UnavailableError(
      absl::StrCat("the connection of the group's leader (", peer_,
                   ") ended: one of the group's processes died or was ended from outside"));
}

absl::Status GroupStream::Handle() {
  using Traits = grpc::SerializationTraits<v1::GroupMessage>;
  if (!Traits::Deserialize(&incoming_bytes_, &incoming_).ok()) {
    return absl::InvalidArgumentError("the group's leader sent bytes that are no GroupMessage");
  }
  switch (incoming_.body_case()) {
    case v1::GroupMessage::kHello: return HandleHello(incoming_.hello());
    case v1::GroupMessage::kReady: return HandleReady();
    case v1::GroupMessage::kFailure: return HandleFailure(incoming_.failure());
    case v1::GroupMessage::kStepResult: return HandleResult();
    case v1::GroupMessage::BODY_NOT_SET: break;
  }
  return absl::InvalidArgumentError("the group's leader sent a message without a known body");
}

absl::Status GroupStream::HandleHello(const v1::Hello& hello) {
  if (phase_ != Phase::kAwaitingHello) {
    return absl::FailedPreconditionError("the group's leader said hello twice");
  }
  TESSERA_RETURN_IF_ERROR(CheckHello(hello));
  group_id_ = hello.group_id();
  world_size_ = hello.world_size();
  TESSERA_RETURN_IF_ERROR(registry_->Claim(hello, shared_from_this()));
  phase_ = Phase::kLoading;
  {
    MutexLock lock(&mu_);
    if (!shutdown_) alarm_.reset();
  }
  v1::CoordinatorMessage answer;
  {
    MutexLock lock(&observer_mu_);
    TESSERA_ASSIGN_OR_RETURN(JoinedGroup joined, observer_->OnJoin(hello, shared_from_this()));
    joined_ = joined.handle;
    *answer.mutable_shard_plan() = std::move(joined.plan);
  }
  if (answer.shard_plan().ranks_size() != world_size_) {
    return absl::InvalidArgumentError(absl::StrCat("the worker group has ", world_size_,
                                                   " ranks; the layout needs ",
                                                   answer.shard_plan().ranks_size()));
  }
  incoming_.Clear();  // a description is large
  return Queue(answer);
}

absl::Status GroupStream::HandleReady() {
  if (phase_ != Phase::kLoading) {
    return absl::FailedPreconditionError(
        absl::StrCat("the group's leader said ready ",
                     phase_ == Phase::kServing ? "twice" : "before hello"));
  }
  phase_ = Phase::kServing;
  MutexLock lock(&observer_mu_);
  observer_->OnReady(*joined_);
  return absl::OkStatus();
}

absl::Status GroupStream::HandleResult() {
  if (phase_ != Phase::kServing) {
    return absl::FailedPreconditionError("the group's leader sent a step result before ready");
  }
  MutexLock lock(&observer_mu_);
  observer_->OnStepResult(*joined_, std::move(*incoming_.mutable_step_result()));
  return absl::OkStatus();
}

absl::Status GroupStream::HandleFailure(const v1::GroupFailure& failure) {
  return absl::UnavailableError(
      absl::StrCat("rank ", failure.world_rank(), ": ", OneLine(failure.message())));
}

absl::Status GroupStream::Queue(const v1::CoordinatorMessage& message) {
  grpc::ByteBuffer bytes;
  bool owned = false;
  using Traits = grpc::SerializationTraits<v1::CoordinatorMessage>;
  const grpc::Status written = Traits::Serialize(message, &bytes, &owned);
  if (!written.ok()) return absl::InternalError(written.error_message());
  return QueueBytes(bytes);
}

absl::Status GroupStream::QueueBytes(grpc::ByteBuffer message) {
  MutexLock lock(&mu_);
  if (finished_) return absl::UnavailableError("the worker group is gone");
  if (outgoing_.size() >= static_cast<size_t>(options_.max_queued_messages)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the worker group has not taken ", outgoing_.size(), " messages"));
  }
  outgoing_.push_back(std::move(message));
  if (!writing_) StartNextWrite();
  return absl::OkStatus();
}

void GroupStream::StartNextWrite() {
  writing_ = true;
  StartWrite(&outgoing_.front());
}

void GroupStream::OnWriteDone(bool ok) {
  MutexLock lock(&mu_);
  writing_ = false;
  outgoing_.pop_front();
  // A failed write is followed by a failed read, which ends the stream.
  if (ok && !finished_ && !outgoing_.empty()) StartNextWrite();
}

void GroupStream::End(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (finished_) return;
  finished_ = true;
  why_ = shutdown_ ? absl::OkStatus() : why;
  Finish(wire::ToGrpc(why_));
}

void GroupStream::SetAlarm(absl::Duration after, const std::string& why) {
  alarm_ = std::make_unique<grpc::Alarm>();
  const auto deadline = std::chrono::system_clock::now() + absl::ToChronoMilliseconds(after);
  // Weak: an alarm that is still set must not keep the stream.
  alarm_->Set(deadline, [weak = weak_from_this(), why](bool fired) {
    if (!fired) return;
    if (auto stream = weak.lock()) stream->End(absl::DeadlineExceededError(why));
  });
}

void GroupStream::OnDone() {
  const std::shared_ptr<GroupStream> self = std::move(self_);
  absl::Status why;
  {
    MutexLock lock(&mu_);
    why = why_;
    alarm_.reset();
  }
  {
    MutexLock lock(&observer_mu_);
    if (!why.ok() && !rank_failure_.empty()) why = absl::UnavailableError(rank_failure_);
    if (joined_) observer_->OnLost(*joined_, why);
    joined_.reset();
  }
  registry_->Release(this);
}

}  // namespace tessera::coordinator
