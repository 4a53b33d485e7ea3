// Where a build says whether devices can exchange activations without the host; compiled once with
// NCCL and once without (TESSERA_GPU in kernels/CMakeLists.txt).
#include "worker/comm/activation_link.h"
#if TESSERA_HAS_NCCL
#include "worker/comm/nccl_links.h"
#endif

namespace tessera::worker {

#if TESSERA_HAS_NCCL
bool HasDeviceLinks() { return true; }
absl::StatusOr<Links> MakeDeviceLinks(const LinkSetup& setup) { return MakeNcclLinks(setup); }
#else
bool HasDeviceLinks() { return false; }
absl::StatusOr<Links> MakeDeviceLinks(const LinkSetup& /*setup*/) {
  return absl::NotFoundError("this build has no NCCL");
}
#endif

}  // namespace tessera::worker
