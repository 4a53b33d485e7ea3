#include "kernels/cuda/cuda_device.h"

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device_impl.h"

namespace tessera::kernels::cuda {
namespace {

absl::Status CallError(const char* function, cudaError_t code) {
  return CudaErrors("cuda").StatusOf("looking for GPUs", function, code);
}

}  // namespace

absl::Status CudaDevice::Start() {
  constexpr char kOperation[] = "start";
  if (errors_.Check(kOperation, "cudaSetDevice", cudaSetDevice(gpu_)) &&
      errors_.Check(
          kOperation, "cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, gpu_)) &&
      errors_.Check(
          kOperation, "cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&capability_, cudaDevAttrComputeCapabilityMajor, gpu_)) &&
      errors_.Check(kOperation, "cudaStreamCreateWithFlags",
                    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking))) {
    upload_ = std::make_unique<WeightUpload>(errors_, stream_);
    large_ = std::make_unique<LargeMatMul>(
        errors_, stream_, outgrown_,
        LargeMatMul::Options{.capability = capability_, .deterministic = deterministic_});
    graphs_ = std::make_unique<StepGraphs>(errors_, stream_);
    sampling_queue_ = std::make_unique<CudaSamplingQueue>(errors_, stream_, outgrown_);
    sampled_now_ = std::make_unique<CudaSamplingQueue>(errors_, stream_, outgrown_);
  }
  return errors_.first();
}

absl::StatusOr<int> CountGpus() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    return absl::NotFoundError(
        CallError("cudaGetDeviceCount", code == cudaSuccess ? cudaErrorNoDevice : code).message());
  }
  return count;
}

absl::StatusOr<MemoryInfo> MemoryOfGpu(int gpu) {
  if (cudaError_t code = cudaSetDevice(gpu); code != cudaSuccess) {
    return CallError("cudaSetDevice", code);
  }
  size_t free = 0, total = 0;
  if (cudaError_t code = cudaMemGetInfo(&free, &total); code != cudaSuccess) {
    return CallError("cudaMemGetInfo", code);
  }
  return MemoryInfo{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const DeviceOptions& options) {
  absl::StatusOr<int> gpus = CountGpus();
  if (!gpus.ok()) return gpus.status();
  if (options.gpu < 0 || options.gpu >= *gpus) {
    return absl::NotFoundError(
        absl::StrCat("cuda device ", options.gpu, ": this machine has GPUs 0 .. ", *gpus - 1));
  }
  cudaDeviceProp properties = {};
  if (cudaError_t code = cudaGetDeviceProperties(&properties, options.gpu); code != cudaSuccess) {
    return CallError("cudaGetDeviceProperties", code);
  }
  auto device = std::make_unique<CudaDevice>(
      options, absl::StrCat("cuda ", options.gpu, ": ", properties.name));
  if (absl::Status started = device->Start(); !started.ok()) return started;
  return device;
}

Stream StreamOf(Device* device) {
  auto* const cuda = dynamic_cast<CudaDevice*>(device);
  return cuda != nullptr ? cuda->stream() : nullptr;
}

}  // namespace tessera::kernels::cuda
