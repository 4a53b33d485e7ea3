#include "worker/comm/receive_within.h"

#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"

namespace tessera::worker {

absl::StatusOr<std::optional<Bytes>> ReceiveWithin(Communicator& world, int peer, int tag,
                                                   absl::Duration timeout) {
  for (Backoff backoff(world.patience());; backoff.Wait()) {
    TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> message, world.TryReceive(peer, tag));
    if (message || backoff.waited() >= timeout) return message;
  }
}

}  // namespace tessera::worker
