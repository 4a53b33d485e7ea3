// How the ranks of a group exchange tensors.
//
// A Communicator is one group of ranks (the world, or one tensor-parallel group split from it).
// Threads: all calls on a Communicator and on those split from it come from the one engine thread.
// Failure: every call has the deadline given at creation; a call that fails or misses it returns a
// Status naming the operation, the peer and the deadline, and after that the group is dead: every
// further call fails at once. Nothing is retried.
//
// Determinism: AllReduceSum adds in rank order 0, 1, ... size-1 for every element, whatever the
// length of the span, and leaves bitwise equal results on every rank.
//
//   TESSERA_ASSIGN_OR_RETURN(auto tp, world->Split(/*color=*/pp_stage, /*key=*/tp_rank));
//   TESSERA_RETURN_IF_ERROR(tp->AllReduceSum(absl::MakeSpan(hidden)));
#ifndef TESSERA_WORKER_COMM_COMMUNICATOR_H_
#define TESSERA_WORKER_COMM_COMMUNICATOR_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/backoff.h"

namespace tessera::worker {

using Bytes = std::vector<std::byte>;

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // within this communicator
  virtual int size() const = 0;

  // In place; every rank calls it with the same length.
  virtual absl::Status AllReduceSum(absl::Span<float> data) = 0;
  virtual absl::Status AllReduceSum(absl::Span<double> data) = 0;

  // Every rank contributes `mine` (same length on all); `all` (size() × that length) receives the
  // contributions in rank order.
  virtual absl::Status AllGather(absl::Span<const std::byte> mine, absl::Span<std::byte> all) = 0;

  // Root's bytes to every rank; `data` may have any size at the root and is resized elsewhere.
  virtual absl::Status Broadcast(int root, Bytes& data) = 0;

  // Buffered: copies or takes the bytes and returns before the peer has received them. Messages of
  // one (peer, tag) arrive in the order sent.
  virtual absl::Status Send(int peer, int tag, Bytes data) = 0;

  // The next message of (peer, tag), of whatever size it was sent.
  virtual absl::StatusOr<Bytes> Receive(int peer, int tag) = 0;

  // As Receive, or nullopt at once when none has arrived. Never blocks; also drives sends forward.
  virtual absl::StatusOr<std::optional<Bytes>> TryReceive(int peer, int tag) = 0;

  // Returns when every rank has called it.
  virtual absl::Status Barrier() = 0;

  // By rank, a piece of memory, `bytes` zeros, that all ranks read and write in place. What one has
  // written another sees once both have passed a Barrier or a sum. Empty where the ranks share no
  // memory. Every rank calls it with the same bytes. Freed with the last of the
  // communicators of the job or world.
  virtual absl::StatusOr<std::vector<std::byte*>> AllocateShared(size_t /*bytes*/) {
    return std::vector<std::byte*>();
  }

  // What all other ranks together have waited for this one alone, in the collectives so far: from
  // their last arrival to this rank's, wherever this one was held up. Zero where the ranks share no
  // clock (messages, as between nodes).
  virtual std::chrono::nanoseconds late() const { return {}; }

  // How to wait for a message.
  virtual Patience patience() const { return {}; }
  // From now on waits for messages let go of the core soon: the ranks of this host have more threads
  // than cores between them.
  virtual void ShareCores() {}

  // New communicators of the ranks that gave the same color, ordered by key. Every rank calls it.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key) = 0;
};

struct CommunicatorOptions {
  absl::Duration deadline = absl::Seconds(60);  // of every call
  // mpi: ranks of one node sum and gather through memory they share (shared_window.h); messages
  // otherwise. Off if any rank says so.
  bool shared_memory = true;
};

// One rank alone. Send and Receive to itself work; everything else is the identity.
std::unique_ptr<Communicator> MakeNullCommunicator();

// `size` ranks as threads of this process, for tests and debugging: element i is rank i's. The
// ranks share state that lives until the last of them is destroyed.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(
    int size, const CommunicatorOptions& options);

// MPI_COMM_WORLD of the job this process was launched in. Owns MPI: initializes it with
// MPI_THREAD_FUNNELED on the calling thread, sets MPI_ERRORS_RETURN before anything else, and
// finalizes when destroyed (or aborts the job if a call has failed). At most one per process.
absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator(
    const CommunicatorOptions& options);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_COMMUNICATOR_H_
