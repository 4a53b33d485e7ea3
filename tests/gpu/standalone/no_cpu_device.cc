// In the place of kernels/cpu, which programs for GPUs alone do not build.
#include "kernels/cpu/cpu_device.h"

namespace tessera::kernels::cpu {

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const DeviceOptions& /*options*/) {
  return absl::NotFoundError("this program was built for GPUs alone");
}

std::vector<std::string> AvailableInstructionSets() { return {}; }

}  // namespace tessera::kernels::cpu
