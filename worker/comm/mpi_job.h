// This process's part in an MPI job: starting and ending MPI, the cause of its end, and messages
// on their way out. Shared by all communicators of the process; the last one to go ends MPI.
//
// Threads: the one engine thread, which is the thread that started MPI (MPI_THREAD_FUNNELED).
// Failure: Fail() keeps the first cause. From then on no MPI function is called but MPI_Abort, so
// that nothing moves in or out of buffers that their owners may have freed.
#ifndef TESSERA_WORKER_COMM_MPI_JOB_H_
#define TESSERA_WORKER_COMM_MPI_JOB_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/backoff.h"
#include "worker/comm/call.h"
#include "worker/comm/communicator.h"
#include "worker/comm/doorbells.h"
#include "worker/comm/mpi_headers.h"

namespace tessera::worker {

class MpiTransfers;

class MpiJob {
 public:
  struct Route {
    int peer;
    int tag;
    MPI_Comm communicator;
  };

  // Initializes MPI. FAILED_PRECONDITION if this process has had it before.
  static absl::StatusOr<std::shared_ptr<MpiJob>> Start(const CommunicatorOptions& options);

  // A healthy job: completes the pending sends, waits for the other ranks to come here too, and
  // finalizes MPI; all within the deadline, or the job is aborted. After a failure: prints the
  // first cause and aborts the job, which ends this process.
  ~MpiJob();

  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  int world_rank() const { return world_rank_; }
  absl::Duration deadline() const { return options_.deadline; }

  // OK, or what ended the job.
  const absl::Status& first_cause() const { return first_cause_; }

  // Ends the job unless `status` is OK or it has ended before; returns what ended it.
  absl::Status Fail(absl::Status status);

  // `code` is what MPI function `function` returned; not MPI_SUCCESS ends the job.
  absl::Status Check(const Call& call, const char* function, int code);

  // Makes `communicator` return errors, and frees it when the job ends.
  absl::Status Adopt(const Call& call, MPI_Comm communicator);

  // Keeps `memory` until the job ends.
  void Adopt(std::shared_ptr<void> memory) { memory_.push_back(std::move(memory)); }

  // The rank in MPI_COMM_WORLD of every rank of `communicator`.
  absl::StatusOr<std::vector<int>> WorldRanksOf(const Call& call, MPI_Comm communicator);

  // Starts a send and owns `data` until it is complete.
  absl::Status StartSend(const Call& call, Bytes data, const Route& route);

  // Wakes that rank if it sleeps: something was sent to it.
  void Ring(int world_rank) {
    if (bells_) bells_->Ring(world_rank);
  }

  // How to wait for messages; for a shorter time on the core once ranks share cores.
  Patience patience() const {
    Patience patience = shares_cores_ ? kSharedCore : Patience();
    patience.bells = bells_.get();
    return patience;
  }
  void ShareCores() { shares_cores_ = true; }

  // Lets go of what has been sent. Every communicator call begins with it.
  absl::Status ReapSends(const Call& call);

  // Whether a message has been announced that is not all here. Every look for a message ends
  // with it.
  void NoteIncoming(bool under_way) {
    if (bells_) bells_->set_only_rings(all_ring_ && !under_way && send_requests_.empty());
  }

 private:
  explicit MpiJob(const CommunicatorOptions& options) : options_(options) {}

  absl::Status Initialize(int provided_thread_level);
  absl::Status MeetNode(const Call& call);
  absl::Status HangBells(const Call& call, int node_rank, MpiTransfers& transfers,
                         absl::Span<const int> world_ranks);
  absl::Status DrainSends();
  absl::Status Finalize();
  [[noreturn]] void Abort();

  const CommunicatorOptions options_;
  int world_rank_ = 0;
  absl::Status first_cause_;
  // The world once more, so that no message of the end is taken for a user's.
  MPI_Comm last_barrier_ = MPI_COMM_NULL;
  std::vector<MPI_Comm> adopted_;
  std::vector<std::shared_ptr<void>> memory_;
  std::string segment_;  // the removed name of our shared segment; may be empty
  std::unique_ptr<Doorbells> bells_;  // of the ranks of this node; null: alone, or no such memory
  bool all_ring_ = false;  // every rank of the job is one of them
  bool shares_cores_ = false;

  // Parallel: request i sends bytes i.
  std::vector<MPI_Request> send_requests_;
  std::vector<Bytes> send_bytes_;
  std::vector<int> completed_;  // scratch of ReapSends
};

// "MPI_Isend: MPI_ERR_RANK: invalid rank".
std::string MpiErrorText(const char* function, int code);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MPI_JOB_H_
