// Collectives of ranks on one node through memory that all of them have mapped (shared_pieces.h):
// each rank writes into a slot of its own and reads the others' slots.
//
// A rank's part of the window, and the rule that makes it safe:
//
//   part  = flag line, notes, slot 0, slot 1
//   flag  = the number of the latest exchange that this rank has published
//   notes = of the exchange of either parity: the bytes that the rank was called with, and when it
//           published them on the node's monotonic clock
//
// Exchange s: write into the own slot s % 2, publish s in the flag, wait until every flag is at
// least s, read the others' slots s % 2. Whoever has published s+1 has read everything of s, and
// whoever starts s+2 has seen s+1 from everybody: so two slots do, and no rank waits twice.
//
// Sums are in rank order and equal bit for bit on all ranks (communicator.h). Waits spin, yield and
// nap (backoff.h), have the job's deadline, and drive the job's pending sends forward.
//
// Ownership: the job owns the memory and frees it in the end; this borrows both. Threads: the
// engine thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto window, SharedWindow::Make({...}));   // null: not on one node
//   if (window) return window->AllReduceSum(call, data);
#ifndef TESSERA_WORKER_COMM_SHARED_WINDOW_H_
#define TESSERA_WORKER_COMM_SHARED_WINDOW_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/call.h"
#include "worker/comm/mpi_headers.h"
#include "worker/comm/mpi_job.h"
#include "worker/comm/mpi_transfers.h"

namespace tessera::worker {

class SharedWindow {
 public:
  // What one slot holds. A longer vector is summed slot by slot.
  static constexpr size_t kSlotBytes = size_t{256} << 10;

  struct Setup {
    MpiJob* job;  // outlives the window
    const Call* call;
    MPI_Comm communicator;    // of the collectives
    MpiTransfers* transfers;  // on it
    absl::Span<const int> world_ranks;
    bool wanted;  // by this rank
  };

  // Every rank of the communicator calls it. Null on all of them when one does not want it, when
  // they are not all on one node, when there is one rank only, or when the system has no such
  // memory.
  static absl::StatusOr<std::unique_ptr<SharedWindow>> Make(const Setup& setup);

  // T: float or double.
  template <typename T>
  absl::Status AllReduceSum(const Call& call, absl::Span<T> data);

  // A longer gather is faster as messages, which copy once.
  static constexpr size_t kMaxGatherBytes = size_t{8} << 10;
  static_assert(kMaxGatherBytes <= kSlotBytes);

  // mine: at most kMaxGatherBytes; all: size × mine.
  absl::Status AllGather(const Call& call, absl::Span<const std::byte> mine,
                         absl::Span<std::byte> all);

  absl::Status Barrier(const Call& call);

  // As Communicator::AllocateShared; empty when the system has no such memory left.
  absl::StatusOr<std::vector<std::byte*>> Allocate(const Call& call, size_t bytes);

  // As Communicator::late.
  std::chrono::nanoseconds late() const { return late_; }

 private:
  struct Part;

  SharedWindow(const Setup& setup, int rank, std::vector<Part*> parts);

  int size() const { return static_cast<int>(parts_.size()); }
  size_t parity() const { return exchange_ % 2; }
  std::byte* OwnSlot() const { return SlotOf(rank_); }
  std::byte* SlotOf(int rank) const;

  // Before writing into OwnSlot / after it: waits for everybody, and that they were called alike.
  void Begin() { ++exchange_; }
  absl::Status Publish(const Call& call);
  void NoteLateness();

  template <typename T>
  absl::Status SumWhole(const Call& call, absl::Span<T> data);
  template <typename T>
  absl::Status SumInShares(const Call& call, absl::Span<T> data);

  MpiJob* const job_;
  MpiTransfers* const transfers_;
  const int rank_;
  const std::vector<int> world_ranks_;
  const std::vector<Part*> parts_;  // by rank
  std::vector<const void*> summands_;
  uint64_t exchange_ = 0;
  std::chrono::nanoseconds late_{0};
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_SHARED_WINDOW_H_
