// The Device of one NVIDIA GPU: bfloat16 activations, keys and values; every operation is put on
// one stream by its launcher (ops.h), and the host goes on at once. Contract: kernels/device.h.
//
// Steps of few tokens run in rows of a power of two, as recorded graphs (step_graphs.h); rows
// beyond the step's tokens have position -1. Longer ones are launched operation by operation, their
// products through cuBLASLt unless `deterministic`, which keeps to kernels whose rows do not depend
// on how many there are.
//
// A recorded step waits for nothing on the host, so the next one can be put behind it
// (TakesBehind): tokens are sampled on the GPU (sampling_queue.h), chosen among those of all ranks
// and put in the places of the next step's placeholders there.
//
// Memory that an operation outgrows, and recordings that point to it, stay until the GPU is seen to
// be idle (cuda_memory.h): no operation waits for it, which waits for other ranks.
//
// The thread that made a device uses it: the current GPU is a property of the thread.
//
//   auto device = MakeCudaDevice({.gpu = 0});
#ifndef TESSERA_KERNELS_CUDA_CUDA_DEVICE_H_
#define TESSERA_KERNELS_CUDA_CUDA_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/ops.h"
#include "kernels/device.h"

namespace tessera::kernels::cuda {

// NOT_FOUND when the machine has no GPU (or no driver) or not that many.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const DeviceOptions& options);

// GPUs that can be used here; NOT_FOUND when there are none, with the library's reason.
absl::StatusOr<int> CountGpus();

// Free and all memory of a GPU.
absl::StatusOr<MemoryInfo> MemoryOfGpu(int gpu);

// The stream that `device` works on; null for other kinds of devices.
Stream StreamOf(Device* device);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_CUDA_DEVICE_H_
