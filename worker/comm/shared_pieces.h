// Memory that the processes of a node share, in pieces.
//
// It is a file without a name or a place in any folder (memfd): /dev/shm, small in most containers,
// is not asked for room, and nothing can be left behind. All of it is there once it stands: where
// the system has too little, that is known then and not at the first write.
#ifndef TESSERA_WORKER_COMM_SHARED_PIECES_H_
#define TESSERA_WORKER_COMM_SHARED_PIECES_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/call.h"
#include "worker/comm/mpi_job.h"
#include "worker/comm/mpi_transfers.h"

namespace tessera::worker {

inline constexpr size_t kPage = 4096;

// By rank, a piece of `bytes` zeros, each at a page of its own, that all `count` ranks of
// `transfers` (this one is `rank` of it) have mapped; every one of them calls it. Empty on all of
// them where one cannot have it. The job frees it in the end.
absl::StatusOr<std::vector<std::byte*>> MapPieces(MpiJob* job, const Call& call,
                                                  MpiTransfers& transfers, int rank, size_t count,
                                                  size_t bytes);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_SHARED_PIECES_H_
