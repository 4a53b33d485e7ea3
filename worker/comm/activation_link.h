// How the devices of a group exchange activations: sums within a tensor-parallel group, the hidden
// state from stage to stage; and what each has sampled.
//
// The host links go through host memory and any Communicator: in place where the device's
// activations are host floats, else by way of a float32 copy (several ranks on one GPU). The NCCL
// links put the exchange on the device's stream, where it can be recorded with everything else
// (Recorder::Replayable). The engine chooses (engine/link_choice.h).
//
// Ownership: borrow device and communicators. Threads: the engine thread. Failure and determinism:
// as Communicator; after a failure the group is dead.
//
//   Links links = MakeHostLinks(setup);
//   TESSERA_RETURN_IF_ERROR(links.tp->AllReduceSum(partial, n * hidden_size));
//   TESSERA_RETURN_IF_ERROR(links.tp->Wait(between));
#ifndef TESSERA_WORKER_COMM_ACTIVATION_LINK_H_
#define TESSERA_WORKER_COMM_ACTIVATION_LINK_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "proto/base/status_macros.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

class ActivationLink {
 public:
  virtual ~ActivationLink() = default;

  // In place, after all that the device was told before and before all it is told after; every rank
  // of the group calls it with the same count.
  virtual absl::Status AllReduceSum(kernels::Activation* data, int64_t count) = 0;
  virtual absl::Status AllReduceSum(kernels::Partial* data, int64_t count) = 0;
  virtual absl::Status AllReduceSum(kernels::SquareSum* data, int64_t count) = 0;

  // Whether, in a step with `rows` rows of `cols`, each rank sums and normalizes rows of its own
  // and all read the result, instead of each doing all rows.
  virtual bool SplitsRows(int64_t /*rows*/, int64_t /*cols*/) const { return false; }

  // Sums `data` (rows, cols), from Allocate, over the ranks and calls use(begin, count) for rows
  // that are summed: in pieces for this rank's rows if SplitsRows, when the others' stay unsummed;
  // else once for all. If SplitsRows, Meet or GatherRows must come before `data` is written again,
  // and before what the others' `use` has written is read.
  virtual absl::Status AddRows(kernels::Partial* data, int64_t rows, int64_t cols,
                               absl::FunctionRef<void(int64_t begin, int64_t count)> use) {
    TESSERA_RETURN_IF_ERROR(AllReduceSum(data, rows * cols));
    use(0, rows);
    return absl::OkStatus();
  }

  // If SplitsRows: where all ranks write their rows, and read all of them, in the place of `own`,
  // which comes from Allocate.
  virtual kernels::Activation* Common(kernels::Activation* own) const { return own; }

  // If SplitsRows: waits until every rank has called it.
  virtual absl::Status Meet() { return absl::OkStatus(); }

  // If SplitsRows: the rows of `data` (rows, cols), from Allocate, that are other ranks' from them.
  virtual absl::Status GatherRows(kernels::Activation* /*data*/, int64_t /*rows*/,
                                  int64_t /*cols*/) {
    return absl::OkStatus();
  }

  // Whether AllReduceSum only tells the device what to do, so that it may be recorded.
  virtual bool on_device() const = 0;

  // If on_device, of more than one rank: `bytes` at `mine` of every rank, one rank after the other,
  // to `all`, in the order of the device's work as AllReduceSum. Both lie in memory from Allocate,
  // at the same place of it on every rank.
  virtual absl::Status AllGather(const std::byte* /*mine*/, size_t /*bytes*/, std::byte* /*all*/) {
    return absl::UnimplementedError("these ranks' devices gather nothing by themselves");
  }

  // Device memory that both are fast on; lives as long as the link. Every rank of the group
  // calls it with the same bytes.
  virtual absl::StatusOr<std::byte*> Allocate(size_t bytes) = 0;

  // Until the device is done, or the group has failed, or the deadline has passed. `between` is
  // called now and then; its failure is returned at once.
  virtual absl::Status Wait(absl::FunctionRef<absl::Status()> between) = 0;

  // One look, without waiting: what went wrong with the device or the group since, for those who
  // wait for something else meanwhile.
  virtual absl::Status Check() = 0;

  // Ends what the device is stuck in because of `why`: nothing it does is of use any more, and its
  // memory is not freed before it is idle.
  virtual void GiveUp(const absl::Status& /*why*/) {}
};

// The hidden state from one stage's device to the next one's. Absent where it goes by message,
// after the step's header.
class StageLink {
 public:
  virtual ~StageLink() = default;

  // Both are put on the device's stream; ActivationLink::Wait waits for them too.
  virtual absl::Status SendToNext(const kernels::Activation* data, int64_t count) = 0;
  virtual absl::Status ReceiveFromPrevious(kernels::Activation* data, int64_t count) = 0;
};

struct Links {
  std::unique_ptr<ActivationLink> tp;
  std::unique_ptr<StageLink> stage;  // null: by message
};

struct LinkSetup {
  kernels::Device* device = nullptr;
  int world_rank = 0;          // for messages
  Communicator* tp = nullptr;  // this stage's ranks
  Communicator* pp = nullptr;  // this tp_rank's ranks, by stage
  absl::Duration deadline = absl::Seconds(60);
};

// Host memory and messages.
Links MakeHostLinks(const LinkSetup& setup);

// NCCL. Every rank of both groups calls it. NOT_FOUND where this build has no NCCL.
absl::StatusOr<Links> MakeDeviceLinks(const LinkSetup& setup);
bool HasDeviceLinks();

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_ACTIVATION_LINK_H_
