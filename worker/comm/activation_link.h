// How the devices of a tensor-parallel group add up their activations.
//
// The host link goes through host memory and any Communicator: in place where the device's
// activations are host floats, else by way of a float32 copy (several ranks on one GPU). A link
// whose devices talk to each other (NCCL) enters here as one more factory.
//
// Ownership: borrows device and communicator. Threads: the engine thread. Failure and determinism:
// as Communicator; after a failure the group is dead.
//
//   auto link = MakeHostLink(device.get(), tp.get());
//   TESSERA_RETURN_IF_ERROR(link->AllReduceSum(partial, n * hidden_size));
#ifndef TESSERA_WORKER_COMM_ACTIVATION_LINK_H_
#define TESSERA_WORKER_COMM_ACTIVATION_LINK_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

class ActivationLink {
 public:
  virtual ~ActivationLink() = default;

  // In place, after all that the device was told before and before all it is told after; every rank
  // of the group calls it with the same count.
  virtual absl::Status AllReduceSum(kernels::Activation* data, int64_t count) = 0;
  virtual absl::Status AllReduceSum(kernels::Partial* data, int64_t count) = 0;
};

std::unique_ptr<ActivationLink> MakeHostLink(kernels::Device* device, Communicator* tp);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_ACTIVATION_LINK_H_
