// The ranks of a group agree before they go on: all well, or one of them says why not.
//
// The leader (rank 0) hears every rank's status and tells all of them the outcome. Unlike the
// communicator's own calls these waits have their own deadline: ranks may load at very different
// speeds. Collective; engine thread only.
//
//   const Agreement agreement = Agree(*world, loaded, load_timeout);
//   if (agreement.failed_rank == world->rank()) PrintLine(agreement.status.message());
#ifndef TESSERA_WORKER_GROUP_AGREEMENT_H_
#define TESSERA_WORKER_GROUP_AGREEMENT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

struct Agreement {
  absl::Status status;   // the failed rank's, or why the others could not be asked
  int failed_rank = -1;  // the lowest one that failed; this rank itself when it got no answer
};

// A rank that has failed itself waits for the others' answers only briefly: they may be stuck in
// something that needs this rank.
Agreement Agree(Communicator& world, const absl::Status& mine, absl::Duration timeout);

// The leader's text to every rank, itself included; `text` is ignored elsewhere.
absl::StatusOr<std::string> FromLeader(Communicator& world, const std::string& text,
                                       absl::Duration timeout);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_AGREEMENT_H_
