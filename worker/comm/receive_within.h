// Receiving with a deadline of its own, for waits that may outlast or must undercut the
// communicator's: ranks load at very different speeds, and a failed rank is not waited for long.
//
//   TESSERA_ASSIGN_OR_RETURN(auto word, ReceiveWithin(*world, peer, kTag, absl::Minutes(30)));
//   if (!word) return absl::DeadlineExceededError(...);   // the caller knows what it waited for
#ifndef TESSERA_WORKER_COMM_RECEIVE_WITHIN_H_
#define TESSERA_WORKER_COMM_RECEIVE_WITHIN_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

// The next message of (peer, tag), or nullopt when `timeout` passed without one. Polls at least
// once, napping between. Engine thread only; an error is the communicator's.
absl::StatusOr<std::optional<Bytes>> ReceiveWithin(Communicator& world, int peer, int tag,
                                                   absl::Duration timeout);

// The text of the leader (rank 0) on every rank, itself included; `text` is ignored elsewhere.
// DEADLINE_EXCEEDED when nothing came within `timeout`. Collective.
absl::StatusOr<std::string> FromLeader(Communicator& world, const std::string& text,
                                       absl::Duration timeout);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_RECEIVE_WITHIN_H_
