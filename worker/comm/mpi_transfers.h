// The messages of one collective call: started together, awaited together under one deadline.
//
// Lengths are exact: a peer that sends more or less than expected is an error, not a truncation.
// The object is reused from call to call so that a call allocates nothing. Buffers must live until
// Await returns.
//
//   transfers.Begin(call);
//   TESSERA_RETURN_IF_ERROR(transfers.Receive(peer, theirs, bytes));
//   TESSERA_RETURN_IF_ERROR(transfers.Send(peer, mine, bytes));
//   TESSERA_RETURN_IF_ERROR(transfers.Await());
#ifndef TESSERA_WORKER_COMM_MPI_TRANSFERS_H_
#define TESSERA_WORKER_COMM_MPI_TRANSFERS_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/call.h"
#include "worker/comm/mpi_headers.h"
#include "worker/comm/mpi_job.h"

namespace tessera::worker {

class MpiTransfers {
 public:
  // `job` must outlive this; `world_ranks`: of each rank of `communicator`.
  MpiTransfers(MpiJob* job, MPI_Comm communicator, std::vector<int> world_ranks)
      : job_(job), communicator_(communicator), world_ranks_(std::move(world_ranks)) {}

  void Begin(const Call& call);
  absl::Status Send(int peer, const void* data, std::size_t bytes);
  absl::Status Receive(int peer, void* data, std::size_t bytes);

  // Waits until all have completed. Past the deadline the job is dead; the message names the peer
  // of a transfer that is still incomplete.
  absl::Status Await();

  // Begin, an empty message to and from every other rank, Await.
  absl::Status Barrier(const Call& call);

  // Begin, one byte to and from every other rank, Await: whether all of them said true.
  absl::StatusOr<bool> AllTrue(const Call& call, bool mine);

 private:
  struct Transfer {
    int peer;
    std::size_t bytes;
    bool receives;
  };

  absl::Status GiveUp();
  absl::Status CheckStatuses(int code);

  MpiJob* const job_;
  const MPI_Comm communicator_;
  const std::vector<int> world_ranks_;
  Call call_{};
  std::vector<Transfer> transfers_;  // parallel to requests_ and statuses_
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MPI_TRANSFERS_H_
