// One rank alone: every collective is the identity, and messages go round to their sender.

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/base/status_macros.h"
#include "worker/comm/call.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

class NullCommunicator : public Communicator {
 public:
  // `first_cause` is shared with everything split from this one.
  explicit NullCommunicator(std::shared_ptr<absl::Status> first_cause)
      : first_cause_(std::move(first_cause)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduceSum(absl::Span<float>) override { return *first_cause_; }
  absl::Status AllReduceSum(absl::Span<double>) override { return *first_cause_; }

  absl::Status AllGather(absl::Span<const std::byte> mine, absl::Span<std::byte> all) override {
    TESSERA_RETURN_IF_ERROR(*first_cause_);
    TESSERA_RETURN_IF_ERROR(
        Checked(CheckGather({"AllGather", mine.size(), 0}, mine.size(), all.size(), 1)));
    std::copy(mine.begin(), mine.end(), all.begin());
    return absl::OkStatus();
  }

  absl::Status Broadcast(int root, Bytes& data) override {
    TESSERA_RETURN_IF_ERROR(*first_cause_);
    return Checked(CheckPeer({"Broadcast", data.size(), 0}, root, 1));
  }

  absl::Status Send(int peer, int tag, Bytes data) override {
    TESSERA_RETURN_IF_ERROR(*first_cause_);
    TESSERA_RETURN_IF_ERROR(CheckMessage({"Send", data.size(), 0}, peer, tag));
    mail_[tag].push_back(std::move(data));
    return absl::OkStatus();
  }

  absl::StatusOr<Bytes> Receive(int peer, int tag) override {
    TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> message, Take({"Receive", 0, 0}, peer, tag));
    if (message.has_value()) return *std::move(message);
    // Nobody else is there to send it: waiting for the deadline would change nothing.
    return Checked(CallError({"Receive", 0, 0}, absl::StatusCode::kDeadlineExceeded,
                             "the only rank has sent itself no such message"));
  }

  absl::StatusOr<std::optional<Bytes>> TryReceive(int peer, int tag) override {
    return Take({"TryReceive", 0, 0}, peer, tag);
  }

  absl::Status Barrier() override { return *first_cause_; }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int) override {
    TESSERA_RETURN_IF_ERROR(*first_cause_);
    TESSERA_RETURN_IF_ERROR(Checked(CheckColor({"Split", 0, 0}, color)));
    return std::make_unique<NullCommunicator>(first_cause_);
  }

 private:
  // Any failure is the end of the group.
  absl::Status Checked(absl::Status status) {
    if (!status.ok()) *first_cause_ = status;
    return status;
  }

  absl::Status CheckMessage(const Call& call, int peer, int tag) {
    TESSERA_RETURN_IF_ERROR(Checked(CheckPeer(call, peer, 1)));
    return Checked(CheckTag(call, tag));
  }

  absl::StatusOr<std::optional<Bytes>> Take(const Call& call, int peer, int tag) {
    TESSERA_RETURN_IF_ERROR(*first_cause_);
    TESSERA_RETURN_IF_ERROR(CheckMessage(call, peer, tag));
    const auto queue = mail_.find(tag);
    if (queue == mail_.end()) return std::optional<Bytes>();
    Bytes message = std::move(queue->second.front());
    queue->second.pop_front();
    if (queue->second.empty()) mail_.erase(queue);
    return std::optional<Bytes>(std::move(message));
  }

  std::shared_ptr<absl::Status> first_cause_;
  std::map<int, std::deque<Bytes>> mail_;  // by tag; no queue is empty
};

}  // namespace

std::unique_ptr<Communicator> MakeNullCommunicator() {
  return std::make_unique<NullCommunicator>(std::make_shared<absl::Status>());
}

}  // namespace tessera::worker
