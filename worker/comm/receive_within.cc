#include "worker/comm/receive_within.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/message_tags.h"

namespace tessera::worker {

absl::StatusOr<std::optional<Bytes>> ReceiveWithin(Communicator& world, int peer, int tag,
                                                   absl::Duration timeout) {
  for (Backoff backoff(world.patience());; backoff.Wait()) {
    TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> message, world.TryReceive(peer, tag));
    if (message || backoff.waited() >= timeout) return message;
  }
}

absl::StatusOr<std::string> FromLeader(Communicator& world, const std::string& text,
                                       absl::Duration timeout) {
  if (world.rank() != 0) {
    TESSERA_ASSIGN_OR_RETURN(const std::optional<Bytes> heard,
                             ReceiveWithin(world, 0, kLeaderTextTag, timeout));
    if (heard) return std::string(reinterpret_cast<const char*>(heard->data()), heard->size());
    return absl::DeadlineExceededError(absl::StrCat(
        "rank 0 told rank ", world.rank(), " nothing within ", absl::FormatDuration(timeout)));
  }
  for (int peer = 1; peer < world.size(); ++peer) {
    Bytes bytes(text.size());
    if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
    TESSERA_RETURN_IF_ERROR(world.Send(peer, kLeaderTextTag, std::move(bytes)));
  }
  return text;
}

}  // namespace tessera::worker
