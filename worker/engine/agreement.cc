#include "worker/engine/agreement.h"

#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "worker/comm/receive_within.h"
#include "worker/engine/pipeline_links.h"

namespace tessera::worker {
namespace {

// status := u8 code, message
Bytes Encode(const absl::Status& status) {
  const absl::string_view message = status.message();
  Bytes bytes(1 + message.size());
  bytes[0] = static_cast<std::byte>(status.code());
  if (!message.empty()) std::memcpy(bytes.data() + 1, message.data(), message.size());
  return bytes;
}

absl::Status Decode(const Bytes& bytes) {
  if (bytes.empty()) return absl::InternalError("an empty status message");
  return absl::Status(static_cast<absl::StatusCode>(bytes[0]),
                      {reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1});
}

// What that rank said, or that nothing came from it.
absl::Status Await(Communicator& world, int peer, int tag, absl::Duration deadline,
                   absl::string_view doing) {
  TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> bytes, ReceiveWithin(world, peer, tag, deadline));
  if (bytes) return Decode(*bytes);
  return absl::DeadlineExceededError(absl::StrCat(doing, ": no word from rank ", peer, " within ",
                                                  absl::FormatDuration(deadline)));
}

// Whether that rank failed because another one did not answer: the other one knows why.
bool InVain(const absl::Status& status) {
  return absl::IsDeadlineExceeded(status) || absl::IsAborted(status);
}

}  // namespace

absl::Status AgreeOnStatus(Communicator& world, const absl::Status& mine, absl::Duration deadline,
                           absl::string_view doing) {
  if (world.size() == 1) return mine;
  absl::Status verdict = mine;
  if (world.rank() != 0) {
    TESSERA_RETURN_IF_ERROR(world.Send(0, kStatusTag, Encode(mine)));
    return Await(world, 0, kVerdictTag, deadline, doing);
  }
  if (!mine.ok()) verdict = Annotate(mine, "rank 0");
  for (int peer = 1; peer < world.size(); ++peer) {
    const absl::Status theirs = Await(world, peer, kStatusTag, deadline, doing);
    if (!theirs.ok() && (verdict.ok() || (InVain(verdict) && !InVain(theirs)))) {
      verdict = Annotate(theirs, absl::StrCat("rank ", peer));
    }
  }
  for (int peer = 1; peer < world.size(); ++peer) {
    TESSERA_RETURN_IF_ERROR(world.Send(peer, kVerdictTag, Encode(verdict)));
  }
  return verdict;
}

}  // namespace tessera::worker
