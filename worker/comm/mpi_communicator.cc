// Ranks as processes of an MPI job. Everything is built on non-blocking point-to-point messages
// polled with Backoff, because MPI's own collectives have neither a deadline nor a promise about
// the order of the sum.
//
// Each communicator is two of MPI's: one for the user's messages with the user's tags, one for the
// collectives. Where all ranks of a communicator share a node, sums, small gathers and barriers go
// through shared memory instead (shared_window.h), with the same result bit for bit.

#include "worker/comm/mpi_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/call.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_headers.h"
#include "worker/comm/mpi_job.h"
#include "worker/comm/mpi_transfers.h"
#include "worker/comm/rank_sum.h"
#include "worker/comm/shared_window.h"

namespace tessera::worker {
namespace {

// From here on the vector is reduced in slices: two messages after one another per peer, but
// 2·(n-1)/n instead of n-1 times the bytes.
constexpr size_t kSlicedFromBytes = size_t{32} << 10;

constexpr size_t kMaxBytes = std::numeric_limits<int>::max();  // MPI counts in int

absl::Status CheckBytes(const Call& call, size_t bytes) {
  if (bytes <= kMaxBytes) return absl::OkStatus();
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat(bytes, " bytes, at most ", kMaxBytes, " in one message"));
}

class MpiCommunicator : public Communicator {
 public:
  // Every rank of `messages` calls it. Takes over no ownership: the job frees both communicators.
  static absl::StatusOr<std::unique_ptr<Communicator>> Make(std::shared_ptr<MpiJob> job,
                                                            const Call& call, MPI_Comm messages,
                                                            bool shared_memory) {
    MPI_Comm collectives = MPI_COMM_NULL;
    TESSERA_RETURN_IF_ERROR(
        job->Check(call, "MPI_Comm_dup", MPI_Comm_dup(messages, &collectives)));
    TESSERA_RETURN_IF_ERROR(job->Adopt(call, collectives));
    int group_rank = 0;
    TESSERA_RETURN_IF_ERROR(
        job->Check(call, "MPI_Comm_rank", MPI_Comm_rank(messages, &group_rank)));
    TESSERA_ASSIGN_OR_RETURN(std::vector<int> world_ranks, job->WorldRanksOf(call, messages));
    std::unique_ptr<MpiCommunicator> made(new MpiCommunicator(
        std::move(job), messages, collectives, group_rank, std::move(world_ranks)));
    made->window_wanted_ = shared_memory;
    TESSERA_ASSIGN_OR_RETURN(made->window_,
                             SharedWindow::Make({.job = made->job_.get(),
                                                 .call = &call,
                                                 .communicator = collectives,
                                                 .transfers = &made->transfers_,
                                                 .world_ranks = made->world_ranks_,
                                                 .wanted = shared_memory}));
    return std::unique_ptr<Communicator>(std::move(made));
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }

  absl::Status AllReduceSum(absl::Span<float> data) override { return Reduce(data); }
  absl::Status AllReduceSum(absl::Span<double> data) override { return Reduce(data); }

  absl::Status AllGather(absl::Span<const std::byte> mine, absl::Span<std::byte> all) override {
    const Call call = MakeCall("AllGather", mine.size());
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckBytes(call, mine.size())));
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckGather(call, mine.size(), all.size(), size())));
    if (window_ && mine.size() <= SharedWindow::kMaxGatherBytes) {
      return window_->AllGather(call, mine, all);
    }
    transfers_.Begin(call);
    for (int peer : others_) {
      TESSERA_RETURN_IF_ERROR(transfers_.Receive(
          peer, all.data() + static_cast<size_t>(peer) * mine.size(), mine.size()));
    }
    for (int peer : others_) {
      TESSERA_RETURN_IF_ERROR(transfers_.Send(peer, mine.data(), mine.size()));
    }
    std::copy(mine.begin(), mine.end(), all.begin() + rank_ * static_cast<ptrdiff_t>(mine.size()));
    return transfers_.Await();
  }

  // Down a binomial tree: rank r (counted from the root) receives from r without its lowest set
  // bit, and passes on to r plus every lower power of two.
  absl::Status Broadcast(int root, Bytes& data) override {
    const Call call = MakeCall("Broadcast", root == rank_ ? data.size() : 0);
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckPeer(call, root, size())));
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckBytes(call, call.bytes)));
    const int from_root = (rank_ - root + size()) % size();
    int reach = 1;  // this rank's lowest set bit; for the root the first power of two >= size
    while (reach < size() && (from_root & reach) == 0) reach <<= 1;
    if (from_root != 0) {
      const int parent = (from_root - reach + root) % size();
      TESSERA_ASSIGN_OR_RETURN(data, ReceiveSized(call, parent));
    }
    transfers_.Begin(call);
    const uint64_t bytes = data.size();
    for (int step = reach >> 1; step > 0; step >>= 1) {
      if (from_root + step >= size()) continue;
      const int child = (from_root + step + root) % size();
      TESSERA_RETURN_IF_ERROR(transfers_.Send(child, &bytes, sizeof(bytes)));
      TESSERA_RETURN_IF_ERROR(transfers_.Send(child, data.data(), data.size()));
    }
    return transfers_.Await();
  }

  absl::Status Barrier() override {
    const Call call = MakeCall("Barrier", 0);
    TESSERA_RETURN_IF_ERROR(Enter(call, absl::OkStatus()));
    return window_ ? window_->Barrier(call) : transfers_.Barrier(call);
  }

  absl::StatusOr<std::vector<std::byte*>> AllocateShared(size_t bytes) override {
    const Call call = MakeCall("AllocateShared", bytes);
    TESSERA_RETURN_IF_ERROR(Enter(call, absl::OkStatus()));
    if (!window_) return std::vector<std::byte*>();
    return window_->Allocate(call, bytes);
  }

  std::chrono::nanoseconds late() const override {
    return window_ ? window_->late() : std::chrono::nanoseconds(0);
  }

  absl::Status Send(int peer, int tag, Bytes data) override {
    const Call call = MakeCall("Send", data.size());
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckPeer(call, peer, size())));
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckTag(call, tag)));
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckBytes(call, data.size())));
    TESSERA_RETURN_IF_ERROR(job_->StartSend(call, std::move(data), {peer, tag, messages_}));
    job_->Ring(WorldRank(peer));
    return absl::OkStatus();
  }

  absl::StatusOr<Bytes> Receive(int peer, int tag) override {
    const Call call = MakeCall("Receive", 0);
    Backoff backoff(patience());
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> message, Poll(call, peer, tag));
      if (message.has_value()) return *std::move(message);
      if (backoff.waited() >= job_->deadline()) {
        return job_->Fail(NoAnswer(call, WorldRank(peer), job_->deadline()));
      }
      backoff.Wait();
    }
  }

  absl::StatusOr<std::optional<Bytes>> TryReceive(int peer, int tag) override {
    return Poll(MakeCall("TryReceive", 0), peer, tag);
  }

  Patience patience() const override { return job_->patience(); }
  void ShareCores() override { job_->ShareCores(); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key) override {
    const Call call = MakeCall("Split", 0);
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckColor(call, color)));
    // MPI_Comm_split and MPI_Comm_dup wait for everybody without a deadline, so make sure first
    // that everybody is here.
    TESSERA_RETURN_IF_ERROR(transfers_.Barrier(call));
    MPI_Comm part = MPI_COMM_NULL;
    TESSERA_RETURN_IF_ERROR(
        job_->Check(call, "MPI_Comm_split", MPI_Comm_split(messages_, color, key, &part)));
    TESSERA_RETURN_IF_ERROR(job_->Adopt(call, part));
    return Make(job_, call, part, window_wanted_);
  }

  bool shares_memory() const { return window_ != nullptr; }

  absl::StatusOr<std::unique_ptr<Communicator>> OverMessages() {
    const Call call = MakeCall("WithoutSharedMemory", 0);
    TESSERA_RETURN_IF_ERROR(Enter(call, absl::OkStatus()));
    TESSERA_RETURN_IF_ERROR(transfers_.Barrier(call));
    MPI_Comm again = MPI_COMM_NULL;
    TESSERA_RETURN_IF_ERROR(job_->Check(call, "MPI_Comm_dup", MPI_Comm_dup(messages_, &again)));
    TESSERA_RETURN_IF_ERROR(job_->Adopt(call, again));
    return Make(job_, call, again, /*shared_memory=*/false);
  }

 private:
  MpiCommunicator(std::shared_ptr<MpiJob> job, MPI_Comm messages, MPI_Comm collectives,
                  int group_rank, std::vector<int> world_ranks)
      : job_(std::move(job)),
        messages_(messages),
        rank_(group_rank),
        world_ranks_(std::move(world_ranks)),
        transfers_(job_.get(), collectives, world_ranks_) {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank_) others_.push_back(peer);
    }
    parts_.resize(world_ranks_.size());
  }

  int WorldRank(int peer) const { return world_ranks_[static_cast<size_t>(peer)]; }

  Call MakeCall(const char* operation, size_t bytes) const {
    return Call{operation, bytes, job_->world_rank()};
  }

  // The beginning of every call: fails if the job is dead, or dies of `arguments`, the result of a
  // check; then drives pending sends.
  absl::Status Enter(const Call& call, absl::Status arguments) {
    TESSERA_RETURN_IF_ERROR(job_->first_cause());
    TESSERA_RETURN_IF_ERROR(job_->Fail(std::move(arguments)));
    return job_->ReapSends(call);
  }

  template <typename T>
  absl::Status Reduce(absl::Span<T> data) {
    const Call call = MakeCall("AllReduceSum", data.size() * sizeof(T));
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckBytes(call, call.bytes)));
    if (size() == 1 || data.empty()) return absl::OkStatus();
    if (window_) return window_->AllReduceSum(call, data);
    transfers_.Begin(call);
    if (call.bytes < kSlicedFromBytes) return ReduceWhole(data);
    return ReduceInSlices(data);
  }

  // Everybody sends everything to everybody and adds up for itself: one message's latency.
  template <typename T>
  absl::Status ReduceWhole(absl::Span<T> data) {
    const size_t bytes = data.size() * sizeof(T);
    T* scratch = Scratch<T>(others_.size() * data.size());
    for (int peer : others_) {
      TESSERA_RETURN_IF_ERROR(transfers_.Receive(peer, scratch, bytes));
      parts_[static_cast<size_t>(peer)] = scratch;
      scratch += data.size();
    }
    for (int peer : others_) TESSERA_RETURN_IF_ERROR(transfers_.Send(peer, data.data(), bytes));
    TESSERA_RETURN_IF_ERROR(transfers_.Await());
    parts_[static_cast<size_t>(rank_)] = data.data();
    SumInRankOrder<T>(parts_, data);
    return absl::OkStatus();
  }

  // Everybody collects and adds up one slice, and sends the sum to everybody.
  template <typename T>
  absl::Status ReduceInSlices(absl::Span<T> data) {
    const absl::Span<T> own = Slice(data, rank_);
    T* scratch = Scratch<T>(others_.size() * own.size());
    for (int peer : others_) {
      TESSERA_RETURN_IF_ERROR(transfers_.Receive(peer, scratch, own.size() * sizeof(T)));
      parts_[static_cast<size_t>(peer)] = scratch;
      scratch += own.size();
    }
    for (int peer : others_) {
      const absl::Span<T> theirs = Slice(data, peer);
      TESSERA_RETURN_IF_ERROR(
          transfers_.Send(peer, theirs.data(), theirs.size() * sizeof(T)));
    }
    TESSERA_RETURN_IF_ERROR(transfers_.Await());
    parts_[static_cast<size_t>(rank_)] = own.data();
    SumInRankOrder<T>(parts_, own);

    transfers_.Begin(MakeCall("AllReduceSum", data.size() * sizeof(T)));
    for (int peer : others_) {
      const absl::Span<T> theirs = Slice(data, peer);
      TESSERA_RETURN_IF_ERROR(
          transfers_.Receive(peer, theirs.data(), theirs.size() * sizeof(T)));
    }
    for (int peer : others_) {
      TESSERA_RETURN_IF_ERROR(transfers_.Send(peer, own.data(), own.size() * sizeof(T)));
    }
    return transfers_.Await();
  }

  template <typename T>
  absl::Span<T> Slice(absl::Span<T> data, int peer) const {
    const size_t parts = world_ranks_.size();
    const size_t begin = data.size() * static_cast<size_t>(peer) / parts;
    const size_t end = data.size() * static_cast<size_t>(peer + 1) / parts;
    return data.subspan(begin, end - begin);
  }

  // Room for `count` of T until the next call.
  template <typename T>
  T* Scratch(size_t count) {
    const size_t doubles = (count * sizeof(T) + sizeof(double) - 1) / sizeof(double);
    if (scratch_.size() < doubles) scratch_.resize(doubles);
    return reinterpret_cast<T*>(scratch_.data());
  }

  // A length from `peer` and that many bytes, on the collectives' side.
  absl::StatusOr<Bytes> ReceiveSized(const Call& call, int peer) {
    uint64_t bytes = 0;
    transfers_.Begin(call);
    TESSERA_RETURN_IF_ERROR(transfers_.Receive(peer, &bytes, sizeof(bytes)));
    TESSERA_RETURN_IF_ERROR(transfers_.Await());
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckBytes(call, bytes)));
    Bytes data(bytes);
    transfers_.Begin(call);
    TESSERA_RETURN_IF_ERROR(transfers_.Receive(peer, data.data(), data.size()));
    TESSERA_RETURN_IF_ERROR(transfers_.Await());
    return data;
  }

  // A message that has been announced and is on its way in.
  struct Incoming {
    Bytes data;
    MPI_Request request;
  };

  absl::StatusOr<std::optional<Bytes>> Poll(const Call& call, int peer, int tag) {
    absl::StatusOr<std::optional<Bytes>> message = TakeIncoming(call, peer, tag);
    job_->NoteIncoming(!incoming_.empty());
    return message;
  }

  // The next message of (peer, tag) if it is all here.
  absl::StatusOr<std::optional<Bytes>> TakeIncoming(const Call& call, int peer, int tag) {
    TESSERA_RETURN_IF_ERROR(Enter(call, CheckPeer(call, peer, size())));
    TESSERA_RETURN_IF_ERROR(job_->Fail(CheckTag(call, tag)));
    auto incoming = incoming_.find({peer, tag});
    if (incoming == incoming_.end()) {
      TESSERA_ASSIGN_OR_RETURN(const bool announced, StartIncoming(call, peer, tag));
      if (!announced) return std::optional<Bytes>();
      incoming = incoming_.find({peer, tag});
    }
    int done = 0;
    TESSERA_RETURN_IF_ERROR(job_->Check(
        call, "MPI_Imrecv", MPI_Test(&incoming->second.request, &done, MPI_STATUS_IGNORE)));
    if (!done) return std::optional<Bytes>();
    Bytes data = std::move(incoming->second.data);
    incoming_.erase(incoming);
    return std::optional<Bytes>(std::move(data));
  }

  // Starts to receive the next message of (peer, tag); false if there is none.
  absl::StatusOr<bool> StartIncoming(const Call& call, int peer, int tag) {
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status envelope;
    TESSERA_RETURN_IF_ERROR(job_->Check(
        call, "MPI_Improbe", MPI_Improbe(peer, tag, messages_, &found, &message, &envelope)));
    if (!found) return false;
    int bytes = 0;
    TESSERA_RETURN_IF_ERROR(
        job_->Check(call, "MPI_Get_count", MPI_Get_count(&envelope, MPI_BYTE, &bytes)));
    Incoming& incoming = incoming_[{peer, tag}];
    incoming.data.resize(static_cast<size_t>(bytes));
    TESSERA_RETURN_IF_ERROR(
        job_->Check(call, "MPI_Imrecv", MPI_Imrecv(incoming.data.data(), bytes, MPI_BYTE, &message,
                                                   &incoming.request)));
    return true;
  }

  const std::shared_ptr<MpiJob> job_;
  const MPI_Comm messages_;
  const int rank_;
  const std::vector<int> world_ranks_;
  std::vector<int> others_;  // every rank of this communicator but this one
  MpiTransfers transfers_;
  bool window_wanted_ = false;
  std::unique_ptr<SharedWindow> window_;  // null: not all ranks on one node, or refused
  std::vector<double> scratch_;
  std::vector<const void*> parts_;  // by rank, of the sum in progress
  std::map<std::pair<int, int>, Incoming> incoming_;  // by (peer, tag)
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator(
    const CommunicatorOptions& options) {
  TESSERA_ASSIGN_OR_RETURN(std::shared_ptr<MpiJob> job, MpiJob::Start(options));
  const Call call{"MPI_Init_thread", 0, job->world_rank()};
  return MpiCommunicator::Make(std::move(job), call, MPI_COMM_WORLD, options.shared_memory);
}

bool SharesMemory(const Communicator& communicator) {
  const auto* const mpi = dynamic_cast<const MpiCommunicator*>(&communicator);
  return mpi != nullptr && mpi->shares_memory();
}

absl::StatusOr<std::unique_ptr<Communicator>> WithoutSharedMemory(Communicator& mpi) {
  auto* const communicator = dynamic_cast<MpiCommunicator*>(&mpi);
  if (communicator == nullptr) {
    return absl::InvalidArgumentError("WithoutSharedMemory: expected an mpi communicator");
  }
  return communicator->OverMessages();
}

}  // namespace tessera::worker
