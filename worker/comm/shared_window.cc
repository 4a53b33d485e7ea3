#include "worker/comm/shared_window.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/rank_sum.h"
#include "worker/comm/shared_pieces.h"

namespace tessera::worker {
namespace {

// Up to here everybody reads everything of everybody; beyond, each rank sums a share of the vector
// and the others read the sum: one more exchange, but (n-1)/n·2 instead of n-1 times the bytes.
constexpr size_t kWholeUpToBytes = size_t{64} << 10;  // that a rank reads of all others
constexpr size_t kLine = 64;

// The share of `peer` in `data`: cut at cache lines, so that no line is written by two ranks.
struct Share {
  size_t begin;
  size_t count;
};
template <typename T>
Share ShareOf(size_t count, int peer, int size) {
  constexpr size_t kLineElements = kLine / sizeof(T);
  const size_t lines = (count + kLineElements - 1) / kLineElements;
  const auto cut = [&](int at) {
    return std::min(count, lines * static_cast<size_t>(at) / static_cast<size_t>(size) *
                               kLineElements);
  };
  return {cut(peer), cut(peer + 1) - cut(peer)};
}

// One clock for all processes of the node.
int64_t MonotonicNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

struct SharedWindow::Part {
  // One line.
  alignas(kLine) std::atomic<uint64_t> published;
  // Written before `published`, read after it; on its line, which comes over anyway.
  uint64_t call_bytes[2];
  int64_t arrived_ns[2];
  alignas(kPage) std::byte slots[2][kSlotBytes];

  static_assert(std::atomic<uint64_t>::is_always_lock_free, "shared between processes");
};

SharedWindow::SharedWindow(const Setup& setup, int rank, std::vector<Part*> parts)
    : job_(setup.job),
      transfers_(setup.transfers),
      rank_(rank),
      world_ranks_(setup.world_ranks.begin(), setup.world_ranks.end()),
      parts_(std::move(parts)),
      summands_(parts_.size()) {}

absl::StatusOr<std::unique_ptr<SharedWindow>> SharedWindow::Make(const Setup& setup) {
  const Call& call = *setup.call;
  const size_t parts_count = setup.world_ranks.size();
  const int size = static_cast<int>(parts_count);
  if (size == 1) return nullptr;
  // Also the last wait with a deadline: what follows waits for everybody and has none.
  TESSERA_ASSIGN_OR_RETURN(const bool wanted, setup.transfers->AllTrue(call, setup.wanted));
  if (!wanted) return nullptr;

  MPI_Comm node = MPI_COMM_NULL;
  TESSERA_RETURN_IF_ERROR(setup.job->Check(
      call, "MPI_Comm_split_type",
      MPI_Comm_split_type(setup.communicator, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node)));
  TESSERA_RETURN_IF_ERROR(setup.job->Adopt(call, node));
  int node_size = 0, rank = 0;
  TESSERA_RETURN_IF_ERROR(setup.job->Check(call, "MPI_Comm_size", MPI_Comm_size(node, &node_size)));
  TESSERA_RETURN_IF_ERROR(setup.job->Check(call, "MPI_Comm_rank", MPI_Comm_rank(node, &rank)));
  if (node_size != size) return nullptr;  // so it is for every rank of the communicator

  TESSERA_ASSIGN_OR_RETURN(
      const std::vector<std::byte*> pieces,
      MapPieces(setup.job, call, *setup.transfers, rank, parts_count, sizeof(Part)));
  if (pieces.empty()) return nullptr;
  std::vector<Part*> parts(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) parts[i] = reinterpret_cast<Part*>(pieces[i]);
  return std::unique_ptr<SharedWindow>(new SharedWindow(setup, rank, std::move(parts)));
}

absl::StatusOr<std::vector<std::byte*>> SharedWindow::Allocate(const Call& call, size_t bytes) {
  return MapPieces(job_, call, *transfers_, rank_, parts_.size(), bytes);
}

std::byte* SharedWindow::SlotOf(int rank) const {
  return parts_[static_cast<size_t>(rank)]->slots[parity()];
}

absl::Status SharedWindow::Publish(const Call& call) {
  Part& own = *parts_[static_cast<size_t>(rank_)];
  own.call_bytes[parity()] = call.bytes;
  own.arrived_ns[parity()] = MonotonicNanoseconds();
  own.published.store(exchange_, std::memory_order_release);
  Backoff backoff;
  for (int peer = 0; peer < size(); ++peer) {
    const Part& part = *parts_[static_cast<size_t>(peer)];
    while (part.published.load(std::memory_order_acquire) < exchange_) {
      backoff.Wait();
      if (backoff.waited() == absl::ZeroDuration()) continue;  // still spinning
      // A peer may be waiting for a message of ours before it can come here.
      TESSERA_RETURN_IF_ERROR(job_->ReapSends(call));
      if (backoff.waited() >= job_->deadline()) {
        return job_->Fail(
            NoAnswer(call, world_ranks_[static_cast<size_t>(peer)], job_->deadline()));
      }
    }
    if (part.call_bytes[parity()] != call.bytes) {
      return job_->Fail(UnequalLengths(call, world_ranks_[static_cast<size_t>(peer)],
                                       part.call_bytes[parity()]));
    }
  }
  NoteLateness();
  return absl::OkStatus();
}

// Arrivals are compared, not waits: a rank that is stopped while it waits is late only for the next
// exchange, and then it is that rank's arrival that is late.
void SharedWindow::NoteLateness() {
  int64_t others_ns = 0;  // the last arrival of another rank
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    others_ns = std::max(others_ns, parts_[static_cast<size_t>(peer)]->arrived_ns[parity()]);
  }
  const int64_t own_ns = parts_[static_cast<size_t>(rank_)]->arrived_ns[parity()];
  late_ += std::chrono::nanoseconds(std::max<int64_t>(0, own_ns - others_ns));
}

template <typename T>
absl::Status SharedWindow::AllReduceSum(const Call& call, absl::Span<T> data) {
  if (call.bytes * static_cast<size_t>(size() - 1) <= kWholeUpToBytes) return SumWhole(call, data);
  constexpr size_t kSlotElements = kSlotBytes / sizeof(T);
  for (size_t begin = 0; begin < data.size(); begin += kSlotElements) {
    TESSERA_RETURN_IF_ERROR(SumInShares(call, data.subspan(begin, kSlotElements)));
  }
  return absl::OkStatus();
}

template <typename T>
absl::Status SharedWindow::SumWhole(const Call& call, absl::Span<T> data) {
  Begin();
  std::copy(data.begin(), data.end(), reinterpret_cast<T*>(OwnSlot()));
  TESSERA_RETURN_IF_ERROR(Publish(call));
  for (int peer = 0; peer < size(); ++peer) summands_[static_cast<size_t>(peer)] = SlotOf(peer);
  summands_[static_cast<size_t>(rank_)] = data.data();
  SumInRankOrder<T>(summands_, data);
  return absl::OkStatus();
}

template <typename T>
absl::Status SharedWindow::SumInShares(const Call& call, absl::Span<T> data) {
  const Share own = ShareOf<T>(data.size(), rank_, size());
  Begin();
  // Nobody else reads the own share.
  T* slot = reinterpret_cast<T*>(OwnSlot());
  const size_t own_end = own.begin + own.count;
  std::copy_n(data.data(), own.begin, slot);
  std::copy_n(data.data() + own_end, data.size() - own_end, slot + own_end);
  TESSERA_RETURN_IF_ERROR(Publish(call));
  for (int peer = 0; peer < size(); ++peer) {
    summands_[static_cast<size_t>(peer)] = reinterpret_cast<const T*>(SlotOf(peer)) + own.begin;
  }
  summands_[static_cast<size_t>(rank_)] = data.data() + own.begin;
  SumInRankOrder<T>(summands_, data.subspan(own.begin, own.count));

  Begin();
  slot = reinterpret_cast<T*>(OwnSlot());
  std::copy_n(data.data() + own.begin, own.count, slot + own.begin);
  TESSERA_RETURN_IF_ERROR(Publish(call));
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    const Share theirs = ShareOf<T>(data.size(), peer, size());
    const T* sums = reinterpret_cast<const T*>(SlotOf(peer)) + theirs.begin;
    std::copy_n(sums, theirs.count, data.data() + theirs.begin);
  }
  return absl::OkStatus();
}

template absl::Status SharedWindow::AllReduceSum(const Call& call, absl::Span<float> data);
template absl::Status SharedWindow::AllReduceSum(const Call& call, absl::Span<double> data);

absl::Status SharedWindow::AllGather(const Call& call, absl::Span<const std::byte> mine,
                                     absl::Span<std::byte> all) {
  Begin();
  if (!mine.empty()) std::memcpy(OwnSlot(), mine.data(), mine.size());
  TESSERA_RETURN_IF_ERROR(Publish(call));
  for (int peer = 0; peer < size() && !mine.empty(); ++peer) {
    std::memcpy(all.data() + static_cast<size_t>(peer) * mine.size(), SlotOf(peer), mine.size());
  }
  return absl::OkStatus();
}

absl::Status SharedWindow::Barrier(const Call& call) {
  Begin();
  return Publish(call);
}

}  // namespace tessera::worker
