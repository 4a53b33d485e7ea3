// What only the mpi communicator has (communicator.h has the rest). For benchmarks and tests.
#ifndef TESSERA_WORKER_COMM_MPI_COMMUNICATOR_H_
#define TESSERA_WORKER_COMM_MPI_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

// A communicator of the same ranks over messages alone. Collective. INVALID_ARGUMENT unless `mpi`
// is an mpi communicator.
absl::StatusOr<std::unique_ptr<Communicator>> WithoutSharedMemory(Communicator& mpi);

// Whether its collectives go through shared memory.
bool SharesMemory(const Communicator& communicator);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MPI_COMMUNICATOR_H_
