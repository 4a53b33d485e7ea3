#include "worker/comm/timed_communicator.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <limits>
#include <utility>

#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

using Clock = std::chrono::steady_clock;

enum class Kind { kAllReduce, kAllGather, kBroadcast, kReceive, kBarrier };
constexpr size_t kKinds = 5;

class TimedCommunicator : public Communicator {
 public:
  TimedCommunicator(std::unique_ptr<Communicator> inner, CommTimes* times)
      : inner_(std::move(inner)), times_(times) {
    for (auto& of_kind : fastest_ns_) of_kind.fill(std::numeric_limits<int64_t>::max());
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  absl::Status AllReduceSum(absl::Span<float> data) override { return Reduce(data); }
  absl::Status AllReduceSum(absl::Span<double> data) override { return Reduce(data); }

  absl::Status AllGather(absl::Span<const std::byte> mine, absl::Span<std::byte> all) override {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(inner_->AllGather(mine, all));
    Note(Kind::kAllGather, mine.size(), began);
    return absl::OkStatus();
  }

  absl::Status Broadcast(int root, Bytes& data) override {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(inner_->Broadcast(root, data));
    Note(Kind::kBroadcast, data.size(), began);
    return absl::OkStatus();
  }

  // Waits for nobody.
  absl::Status Send(int peer, int tag, Bytes data) override {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(inner_->Send(peer, tag, std::move(data)));
    times_->moving_ns += Since(began);
    return absl::OkStatus();
  }

  absl::StatusOr<Bytes> Receive(int peer, int tag) override {
    const Clock::time_point began = Clock::now();
    TESSERA_ASSIGN_OR_RETURN(Bytes data, inner_->Receive(peer, tag));
    Note(Kind::kReceive, data.size(), began);
    return data;
  }

  absl::StatusOr<std::optional<Bytes>> TryReceive(int peer, int tag) override {
    return inner_->TryReceive(peer, tag);
  }

  absl::Status Barrier() override {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(inner_->Barrier());
    Note(Kind::kBarrier, 0, began);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::byte*>> AllocateShared(size_t bytes) override {
    return inner_->AllocateShared(bytes);
  }

  std::chrono::nanoseconds late() const override { return inner_->late(); }

  Patience patience() const override { return inner_->patience(); }
  void ShareCores() override { inner_->ShareCores(); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key) override {
    TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, inner_->Split(color, key));
    return MakeTimedCommunicator(std::move(part), times_);
  }

 private:
  template <typename T>
  absl::Status Reduce(absl::Span<T> data) {
    const Clock::time_point began = Clock::now();
    TESSERA_RETURN_IF_ERROR(inner_->AllReduceSum(data));
    Note(Kind::kAllReduce, data.size() * sizeof(T), began);
    return absl::OkStatus();
  }

  static int64_t Since(Clock::time_point began) {
    return std::chrono::nanoseconds(Clock::now() - began).count();
  }

  void Note(Kind kind, size_t bytes, Clock::time_point began) {
    const int64_t took = Since(began);
    int64_t& fastest = fastest_ns_[static_cast<size_t>(kind)][std::bit_width(bytes)];
    fastest = std::min(fastest, took);
    times_->moving_ns += fastest;
    times_->waiting_ns += took - fastest;
    const std::chrono::nanoseconds late = inner_->late();
    times_->late_ns += (late - late_).count();
    late_ = late;
  }

  const std::unique_ptr<Communicator> inner_;
  CommTimes* const times_;
  std::chrono::nanoseconds late_{0};  // of the inner one, as of its last call
  // By kind and number of bits of the size.
  std::array<std::array<int64_t, std::numeric_limits<size_t>::digits + 1>, kKinds> fastest_ns_;
};

}  // namespace

std::unique_ptr<Communicator> MakeTimedCommunicator(std::unique_ptr<Communicator> inner,
                                                    CommTimes* times) {
  return std::make_unique<TimedCommunicator>(std::move(inner), times);
}

}  // namespace tessera::worker
