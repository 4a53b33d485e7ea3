// The Device of the machine's own cores: splits each op among threads and calls the kernels of the
// chosen instruction set (ops.h). Always in sync. Contract: kernels/device.h.
//
//   auto device = MakeCpuDevice({.threads = 2, .instruction_set = "auto"});
#ifndef TESSERA_KERNELS_CPU_CPU_DEVICE_H_
#define TESSERA_KERNELS_CPU_CPU_DEVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace tessera::kernels::cpu {

// UNIMPLEMENTED for an instruction set this machine does not have, INVALID_ARGUMENT for a name that
// is none or for threads < 1.
absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const DeviceOptions& options);

// The instruction sets this machine can run, plainest first; the last one is "auto".
std::vector<std::string> AvailableInstructionSets();

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_CPU_DEVICE_H_
