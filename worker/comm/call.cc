#include "worker/comm/call.h"

#include "absl/strings/str_cat.h"

namespace tessera::worker {

std::string Describe(const Call& call) {
  return absl::StrCat(call.operation, " of ", call.bytes, " bytes on world rank ",
                      call.world_rank);
}

absl::Status CallError(const Call& call, absl::StatusCode code, absl::string_view problem) {
  return absl::Status(code, absl::StrCat(Describe(call), ": ", problem));
}

absl::Status NoAnswer(const Call& call, int peer_world_rank, absl::Duration deadline) {
  return CallError(call, absl::StatusCode::kDeadlineExceeded,
                   absl::StrCat("no answer from world rank ", peer_world_rank, " within ",
                                absl::FormatDuration(deadline)));
}

absl::Status CheckPeer(const Call& call, int peer, int size) {
  if (peer >= 0 && peer < size) return absl::OkStatus();
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("peer ", peer, " is not in [0, ", size, ")"));
}

absl::Status CheckTag(const Call& call, int tag) {
  if (tag >= 0 && tag <= kMaxTag) return absl::OkStatus();
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("tag ", tag, " is not in [0, ", kMaxTag, "]"));
}

absl::Status CheckGather(const Call& call, std::size_t mine_bytes, std::size_t all_bytes,
                         int size) {
  const std::size_t expected = mine_bytes * static_cast<std::size_t>(size);
  if (all_bytes == expected) return absl::OkStatus();
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("room for ", all_bytes, " bytes, expected ", size, " times ",
                                mine_bytes));
}

absl::Status CheckColor(const Call& call, int color) {
  if (color >= 0) return absl::OkStatus();
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("color ", color, " is negative"));
}

absl::Status UnequalLengths(const Call& call, int peer_world_rank, std::size_t peer_bytes) {
  return CallError(call, absl::StatusCode::kInvalidArgument,
                   absl::StrCat("world rank ", peer_world_rank, " called it with ", peer_bytes,
                                " bytes; every rank must use the same length"));
}

}  // namespace tessera::worker
