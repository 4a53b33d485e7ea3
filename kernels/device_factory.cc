// Where a kind of device becomes a device; the only file that will know which kinds a build has.
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"

namespace tessera::kernels {

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view kind,
                                                   const DeviceOptions& options) {
  if (kind == "cpu") return cpu::MakeCpuDevice(options);
  return absl::NotFoundError(
      absl::StrCat("device '", kind, "': this build has only the kind 'cpu'"));
}

}  // namespace tessera::kernels
