// One NCCL communicator, with no call unchecked and no wait without an end.
//
// Every call is non-blocking; what NCCL has still to do is polled for under the deadline, and so is
// the device while it runs collectives (Wait). The first failure aborts the communicator, which also
// ends the collectives that the device is stuck in; from then on every call fails with its cause.
// Messages name our operation, NCCL's function, its text, and the rank:
//
//   AllReduceSum of 4608 bytes on world rank 1: ncclAllReduce: unhandled system error (...)
//
// Ownership: borrows device and `group`. Threads: the engine thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto nccl, NcclGroup::Create({device, stream, world_rank, tp, 60s}));
//   TESSERA_RETURN_IF_ERROR(nccl->Check(call, "ncclAllReduce", ncclAllReduce(..., nccl->comm(), ...)));
#ifndef TESSERA_WORKER_COMM_NCCL_GROUP_H_
#define TESSERA_WORKER_COMM_NCCL_GROUP_H_

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "worker/comm/call.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

class NcclGroup {
 public:
  struct Setup {
    kernels::Device* device = nullptr;
    cudaStream_t stream = nullptr;
    int world_rank = 0;
    Communicator* group = nullptr;  // the same ranks; carries the unique id
    absl::Duration deadline;
  };
  // Collective over `group`.
  static absl::StatusOr<std::unique_ptr<NcclGroup>> Create(const Setup& setup);

  // Orderly where all is well: finalizes within a second, else aborts.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  ncclComm_t comm() const { return comm_; }
  cudaStream_t stream() const { return setup_.stream; }
  int world_rank() const { return setup_.world_rank; }

  // OK, or what ended the group.
  const absl::Status& first_cause() const { return first_cause_; }

  // `code` is what NCCL's `function` returned; ncclInProgress is waited for. A failure aborts.
  absl::Status Check(const Call& call, const char* function, ncclResult_t code);

  // Memory that every rank of the group registers (ncclCommWindowRegister) for `bytes`; lives as
  // long as the group.
  absl::StatusOr<std::byte*> Allocate(size_t bytes);

  // One look at the communicator: its asynchronous error, if any.
  absl::Status CheckAsync(const Call& call);
  // Ends the group because of `status`, which is returned.
  absl::Status Fail(absl::Status status);

 private:
  struct Registered {
    void* data = nullptr;
    ncclWindow_t window = nullptr;
  };

  explicit NcclGroup(const Setup& setup) : setup_(setup) {}

  absl::Status Connect();
  // Until NCCL's own thread has done what `function` asked for.
  absl::Status AwaitInProgress(const Call& call, const char* function);
  bool Release();

  const Setup setup_;
  ncclComm_t comm_ = nullptr;
  absl::Status first_cause_;
  std::vector<Registered> memory_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_NCCL_GROUP_H_
