// A barrier at which every rank says how it fares, and learns how all do: well, or one of them says
// why not.
//
// The leader (rank 0) hears every rank's status and tells all of them the outcome. The barrier has
// a deadline of its own, unlike the communicator's calls: ranks may load at very different speeds.
// It polls, and naps between. Collective; the engine thread.
//
//   const BarrierOutcome outcome = StatusBarrier(*world, loaded, {.deadline = absl::Minutes(30)});
//   if (outcome.failed_rank == world->rank()) PrintLine(outcome.status.message());
#ifndef TESSERA_WORKER_COMM_STATUS_BARRIER_H_
#define TESSERA_WORKER_COMM_STATUS_BARRIER_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

struct BarrierOptions {
  absl::Duration deadline;  // for all of the barrier, from this rank's arrival
  // What the ranks were about, for the message that one of them did not come.
  absl::string_view doing = {};
  // A rank that has failed itself waits for the others only a second: they may be stuck in
  // something that needs this rank. Else it waits as long as any.
  bool failed_waits_briefly = false;
};

struct BarrierOutcome {
  absl::Status status;   // the failed rank's; DEADLINE_EXCEEDED naming a rank that did not come
  int failed_rank = -1;  // whose status it is; the one that waited for a rank that did not come
};

// OK on every rank when `mine` is OK on every rank; otherwise the failure of the lowest failing
// rank, on all of them. A rank that waited in vain for another (DEADLINE_EXCEEDED, ABORTED) counts
// only if nobody failed otherwise: the other one knows why. A rank that hears no outcome has its
// own failure for one, or that it heard none.
BarrierOutcome StatusBarrier(Communicator& world, const absl::Status& mine,
                             const BarrierOptions& options);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_STATUS_BARRIER_H_
