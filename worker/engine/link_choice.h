// Whether a group's devices exchange activations by themselves (NCCL) or through the host (MPI).
//
//   TESSERA_ASSIGN_OR_RETURN(bool by_device, ChooseLinks(*world, LinkPreference::kAuto, place));
#ifndef TESSERA_WORKER_ENGINE_LINK_CHOICE_H_
#define TESSERA_WORKER_ENGINE_LINK_CHOICE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

enum class LinkPreference {
  kAuto,  // NCCL where every rank has a GPU of its own and was built with NCCL, else MPI
  kMpi,   // any devices; several ranks may share a GPU
  kNccl,  // FAILED_PRECONDITION where kAuto would choose MPI
};
// "auto", "mpi", "nccl". INVALID_ARGUMENT for others.
absl::StatusOr<LinkPreference> ParseLinkPreference(absl::string_view name);

// Collective over `world`: every rank says which GPU of its host it computes on (-1: none) and
// whether it has NCCL; the answer is the same on all.
struct LinkPlace {
  int gpu = -1;
  bool has_nccl = false;
};
absl::StatusOr<bool> ChooseLinks(Communicator& world, LinkPreference preference,
                                 const LinkPlace& place);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LINK_CHOICE_H_
