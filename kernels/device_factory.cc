// Where a kind of device becomes a device; the only file that knows which kinds a build has.
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"
#if TESSERA_HAS_CUDA
#include "kernels/cuda/cuda_device.h"
#endif

namespace tessera::kernels {
namespace {

#if TESSERA_HAS_CUDA
constexpr absl::string_view kKinds = "'cpu', 'cuda' and 'auto'";

absl::StatusOr<std::unique_ptr<Device>> MakeGpu(const DeviceOptions& options) {
  return cuda::MakeCudaDevice(options);
}
#else
constexpr absl::string_view kKinds = "'cpu' and 'auto'; it was built without CUDA";

absl::StatusOr<std::unique_ptr<Device>> MakeGpu(const DeviceOptions& /*options*/) {
  return absl::NotFoundError(absl::StrCat("device 'cuda': this build has the kinds ", kKinds));
}
#endif

}  // namespace

absl::StatusOr<int> NumGpus() {
#if TESSERA_HAS_CUDA
  return cuda::CountGpus();
#else
  return absl::NotFoundError("this build has no GPUs");
#endif
}

absl::StatusOr<MemoryInfo> MemoryOf([[maybe_unused]] int gpu) {
#if TESSERA_HAS_CUDA
  return cuda::MemoryOfGpu(gpu);
#else
  return absl::NotFoundError("this build has no GPUs");
#endif
}

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view kind,
                                                   const DeviceOptions& options) {
  if (kind == "cpu") return cpu::MakeCpuDevice(options);
  if (kind == "cuda") return MakeGpu(options);
  if (kind == "auto") return NumGpus().ok() ? MakeGpu(options) : cpu::MakeCpuDevice(options);
  return absl::NotFoundError(
      absl::StrCat("device '", kind, "': this build has the kinds ", kKinds));
}

}  // namespace tessera::kernels
