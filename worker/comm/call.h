// What a communicator call says about itself when it fails, and the argument checks that all
// communicators share. Every message begins alike:
//
//   AllReduceSum of 2304 bytes on world rank 1: no answer from world rank 0 within 60s
#ifndef TESSERA_WORKER_COMM_CALL_H_
#define TESSERA_WORKER_COMM_CALL_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tessera::worker {

struct Call {
  const char* operation;  // "AllReduceSum"; a string literal
  std::size_t bytes;      // this rank's; 0 where unknown (Receive) or none (Barrier)
  int world_rank;         // the caller's
};

// "AllReduceSum of 2304 bytes on world rank 1".
std::string Describe(const Call& call);

// `code`: "<call>: <problem>".
absl::Status CallError(const Call& call, absl::StatusCode code, absl::string_view problem);

// DEADLINE_EXCEEDED: "<call>: no answer from world rank P within D".
absl::Status NoAnswer(const Call& call, int peer_world_rank, absl::Duration deadline);

// INVALID_ARGUMENT unless 0 <= peer < size.
absl::Status CheckPeer(const Call& call, int peer, int size);

// INVALID_ARGUMENT unless 0 <= tag <= kMaxTag.
inline constexpr int kMaxTag = 32767;  // what every MPI guarantees
absl::Status CheckTag(const Call& call, int tag);

// INVALID_ARGUMENT unless `all_bytes` is `size` times `mine_bytes`.
absl::Status CheckGather(const Call& call, std::size_t mine_bytes, std::size_t all_bytes, int size);

// INVALID_ARGUMENT unless color >= 0.
absl::Status CheckColor(const Call& call, int color);

// INVALID_ARGUMENT: the ranks of one collective disagree about the length.
absl::Status UnequalLengths(const Call& call, int peer_world_rank, std::size_t peer_bytes);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_CALL_H_
