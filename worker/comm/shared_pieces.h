// Memory that the processes of a node share, in pieces.
#ifndef TESSERA_WORKER_COMM_SHARED_PIECES_H_
#define TESSERA_WORKER_COMM_SHARED_PIECES_H_

#include <cstddef>
#include <vector>

#include "worker/comm/mpi_headers.h"
#include "worker/comm/mpi_job.h"

namespace tessera::worker {

inline constexpr size_t kPage = 4096;

// `count` pieces of `bytes` zeros, each at a page of its own, that all ranks of `node` (this one is
// `rank` of it) have mapped; collective, without a deadline. Empty when MPI has no such memory. The
// job frees it in the end; nothing of it has a name once it stands.
std::vector<std::byte*> MapPieces(MpiJob* job, MPI_Comm node, int rank, size_t count,
                                  size_t bytes);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_SHARED_PIECES_H_
