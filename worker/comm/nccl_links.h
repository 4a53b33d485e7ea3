// The links of activation_link.h over NCCL: on the device's stream, without the host. One
// communicator joins the tensor-parallel group, one the stages.
//
//   TESSERA_ASSIGN_OR_RETURN(Links links, MakeNcclLinks(setup));
#ifndef TESSERA_WORKER_COMM_NCCL_LINKS_H_
#define TESSERA_WORKER_COMM_NCCL_LINKS_H_

#include "absl/status/statusor.h"
#include "worker/comm/activation_link.h"

namespace tessera::worker {

// INVALID_ARGUMENT for a device that is no GPU.
absl::StatusOr<Links> MakeNcclLinks(const LinkSetup& setup);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_NCCL_LINKS_H_
