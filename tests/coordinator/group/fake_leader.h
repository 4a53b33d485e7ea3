// A group's leader without a group: speaks tessera.v1.Cluster as the test tells it to.
#ifndef TESSERA_TESTS_COORDINATOR_GROUP_FAKE_LEADER_H_
#define TESSERA_TESTS_COORDINATOR_GROUP_FAKE_LEADER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/wire/grpc_status.h"
#include "proto/wire/protocol.h"
#include "tessera/v1/cluster.grpc.pb.h"

namespace tessera::coordinator {

class FakeLeader {
 public:
  explicit FakeLeader(int port) {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetMaxSendMessageSize(-1);
    stub_ = v1::Cluster::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), args));
    stream_ = stub_->Join(&context_);
  }
  ~FakeLeader() {
    if (stream_) Vanish();
  }

  static v1::GroupMessage Hello(const std::string& group_id, int world_size) {
    v1::GroupMessage message;
    message.mutable_hello()->set_group_id(group_id);
    message.mutable_hello()->set_world_size(world_size);
    message.mutable_hello()->set_protocol_version(wire::kProtocolVersion);
    message.mutable_hello()->mutable_model()->set_name("fake");
    return message;
  }
  static v1::GroupMessage Ready() {
    v1::GroupMessage message;
    message.mutable_ready();
    return message;
  }
  static v1::GroupMessage Result(int64_t step_id) {
    v1::GroupMessage message;
    message.mutable_step_result()->set_step_id(step_id);
    return message;
  }

  bool Send(const v1::GroupMessage& message) { return stream_->Write(message); }

  // The next message; nullopt when the coordinator ended the stream.
  std::optional<v1::CoordinatorMessage> Receive() {
    v1::CoordinatorMessage message;
    if (!stream_->Read(&message)) return std::nullopt;
    return message;
  }

  // How the coordinator ended the stream; reads what is left first.
  absl::Status AwaitEnd() {
    while (Receive()) {
    }
    return Finish();
  }

  // Leaves as an orderly group does.
  absl::Status Leave() {
    stream_->WritesDone();
    return AwaitEnd();
  }

  // The connection breaks.
  void Vanish() {
    context_.TryCancel();
    Finish().IgnoreError();
  }

  absl::Status Report(const v1::RankReport& report) {
    grpc::ClientContext context;
    v1::RankReportReply reply;
    return wire::FromGrpc(stub_->ReportRank(&context, report, &reply));
  }

 private:
  absl::Status Finish() {
    absl::Status status = wire::FromGrpc(stream_->Finish());
    stream_.reset();
    return status;
  }

  std::unique_ptr<v1::Cluster::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::GroupMessage, v1::CoordinatorMessage>> stream_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_GROUP_FAKE_LEADER_H_
