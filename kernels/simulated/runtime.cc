// The CUDA runtime's entry points for devices, memory, copies and error texts. One simulated GPU per
// TESSERA_STUB_GPUS (default 4), each with TESSERA_STUB_MEMORY bytes (default 1 GiB) of memory that
// begins as NaN. A copy is checked: device addresses lie in one allocation, pinned memory is touched
// when the copy runs, pageable memory at once.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/simulated/call_sites.h"
#include "kernels/simulated/journal.h"
#include "kernels/simulated/streams.h"

namespace tessera::gpu_stubs {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kGuard = 256;  // bytes before and behind each allocation that nobody may write
constexpr unsigned char kUntouched = 0xa5;

int64_t EnvironmentNumber(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoll(value) : otherwise;
}
// 9 as a Hopper's; TESSERA_STUB_CAPABILITY=8 is a card without products of 8-bit floats.
int CapabilityMajor() { return static_cast<int>(EnvironmentNumber("TESSERA_STUB_CAPABILITY", 9)); }

int Gpus() { return static_cast<int>(EnvironmentNumber("TESSERA_STUB_GPUS", 4)); }
size_t MemoryBytes() {
  return static_cast<size_t>(EnvironmentNumber("TESSERA_STUB_MEMORY", int64_t{1} << 30));
}

thread_local int current_gpu = 0;

// Ranges of addresses that do not overlap.
class Ranges {
 public:
  void* Allocate(size_t bytes, size_t limit) {
    const std::lock_guard<std::mutex> lock(mu_);
    if (limit != 0 && used_ + bytes > limit) return nullptr;
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    auto* begin = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, rounded + 2 * kGuard));
    if (begin == nullptr) return nullptr;
    std::memset(begin, kUntouched, rounded + 2 * kGuard);
    std::memset(begin + kGuard, 0xff, bytes);
    ranges_[reinterpret_cast<uintptr_t>(begin + kGuard)] = bytes;
    used_ += bytes;
    return begin + kGuard;
  }
  bool Free(void* data) {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto range = ranges_.find(reinterpret_cast<uintptr_t>(data));
    if (range == ranges_.end()) return false;
    used_ -= range->second;
    ranges_.erase(range);
    std::free(static_cast<unsigned char*>(data) - kGuard);
    return true;
  }
  bool Holds(const void* data, size_t bytes) const {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto at = reinterpret_cast<uintptr_t>(data);
    auto range = ranges_.upper_bound(at);
    if (range == ranges_.begin()) return false;
    --range;
    return at + bytes <= range->first + range->second;
  }
  // Bytes of an allocation that something was written beside; 0 when there is none.
  size_t WrittenBeside() const {
    const std::lock_guard<std::mutex> lock(mu_);
    for (const auto& [at, bytes] : ranges_) {
      const auto* begin = reinterpret_cast<const unsigned char*>(at);
      for (size_t i = 1; i <= kGuard; ++i) {
        if (begin[-static_cast<ptrdiff_t>(i)] != kUntouched) return bytes;
        if (begin[bytes + i - 1] != kUntouched) return bytes;
      }
    }
    return 0;
  }
  size_t used() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return used_;
  }

 private:
  mutable std::mutex mu_;
  std::map<uintptr_t, size_t> ranges_;
  size_t used_ = 0;
};

Ranges& OnGpu() {
  static Ranges* const ranges = new Ranges;
  return *ranges;
}
Ranges& Pinned() {
  static Ranges* const ranges = new Ranges;
  return *ranges;
}

// Freeing waits for the GPU.
void WaitAsFreeingDoes() {
  Note(IsAtWork() ? "free at work" : "free");
  RunAllStreams();
}

cudaError_t CopyNow(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

struct Text {
  cudaError_t code;
  const char* name;
  const char* text;
};
constexpr Text kTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable",
     "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};
const Text& TextOf(cudaError_t code) {
  static constexpr Text kOther = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
  for (const Text& text : kTexts) {
    if (text.code == code) return text;
  }
  return kOther;
}

}  // namespace

size_t WrittenBesideAllocation() {
  const size_t on_gpu = OnGpu().WrittenBeside();
  return on_gpu != 0 ? on_gpu : Pinned().WrittenBeside();
}
void* AllocateOnGpu(size_t bytes) { return OnGpu().Allocate(bytes, MemoryBytes()); }
bool FreeOnGpu(void* data) { return OnGpu().Free(data); }
bool IsOnGpu(const void* data, size_t bytes) { return OnGpu().Holds(data, bytes); }

}  // namespace tessera::gpu_stubs

using namespace tessera::gpu_stubs;  // NOLINT: the entry points of the C library follow

extern "C" {

const char* cudaGetErrorString(cudaError_t code) { return TextOf(code).text; }
const char* cudaGetErrorName(cudaError_t code) { return TextOf(code).name; }

cudaError_t cudaGetDeviceCount(int* count) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  *count = Gpus();
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int gpu) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (gpu < 0 || gpu >= Gpus()) return cudaErrorInvalidDevice;
  current_gpu = gpu;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int gpu) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (gpu < 0 || gpu >= Gpus()) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "simulated GPU");
  properties->totalGlobalMem = MemoryBytes();
  properties->multiProcessorCount = 4;
  properties->major = CapabilityMajor();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int gpu) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (gpu < 0 || gpu >= Gpus()) return cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = CapabilityMajor();
      return cudaSuccess;
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  *total = MemoryBytes();
  *free_bytes = *total - OnGpu().used();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  if (DeviceError() != cudaSuccess) return DeviceError();
  *data = OnGpu().Allocate(bytes, MemoryBytes());
  return *data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void* data) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  WaitAsFreeingDoes();
  return OnGpu().Free(data) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned int) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  if (DeviceError() != cudaSuccess) return DeviceError();
  *data = Pinned().Allocate(bytes, 0);
  return *data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* data) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  WaitAsFreeingDoes();
  return Pinned().Free(data) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (DeviceError() != cudaSuccess) return DeviceError();
  const bool to_gpu = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_gpu = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_gpu && !OnGpu().Holds(to, bytes)) return cudaErrorInvalidValue;
  if (from_gpu && !OnGpu().Holds(from, bytes)) return cudaErrorInvalidValue;
  if (kind == cudaMemcpyHostToDevice) Note("copy in");
  if (kind == cudaMemcpyDeviceToHost) Note("copy out");
  if (kind == cudaMemcpyHostToDevice && !Pinned().Holds(from, bytes)) {
    if (IsCapturing(stream)) return cudaErrorStreamCaptureUnsupported;
    const auto* begin = static_cast<const unsigned char*>(from);
    return Enqueue(stream, [to, copy = std::vector<unsigned char>(begin, begin + bytes)] {
      return CopyNow(to, copy.data(), copy.size());
    });
  }
  if (kind == cudaMemcpyDeviceToHost && !Pinned().Holds(to, bytes)) {
    if (IsCapturing(stream)) return cudaErrorStreamCaptureUnsupported;
    if (cudaError_t error = RunAll(stream); error != cudaSuccess) return error;
    return CopyNow(to, from, bytes);
  }
  return Enqueue(stream, [to, from, bytes] { return CopyNow(to, from, bytes); });
}

}  // extern "C"
