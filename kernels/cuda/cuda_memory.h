// Memory of the GPU and pinned memory of the host that frees itself, and one that grows.
//
//   PinnedMemory host;
//   if (!host.Reserve(errors, "BeginStep", bytes)) return errors.first();
//
// Growing waits for the stream (cudaFree and cudaFreeHost do), loses the contents and moves the
// address, so it never happens while a graph is recorded: an operation grows its memory when it runs
// unrecorded for the first time.
#ifndef TESSERA_KERNELS_CUDA_CUDA_MEMORY_H_
#define TESSERA_KERNELS_CUDA_CUDA_MEMORY_H_

#include <cstddef>
#include <utility>

#include "kernels/cuda/cuda_errors.h"

namespace tessera::kernels::cuda {

// Kind: a struct of static Allocate(void**, size_t), Free(void*) and their names.
template <typename Kind>
class GrowingMemory {
 public:
  GrowingMemory() = default;
  GrowingMemory(GrowingMemory&& other) noexcept { *this = std::move(other); }
  GrowingMemory& operator=(GrowingMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~GrowingMemory() {
    if (data_ != nullptr) CheckAtEnd(Kind::kFreeName, Kind::Free(data_));
  }

  std::byte* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

  // Whether there are at least that many bytes now; a failure ends the device.
  bool Reserve(CudaErrors& errors, const char* operation, size_t bytes) {
    if (bytes <= bytes_) return errors.ok();
    if (data_ != nullptr) {
      std::byte* const old = std::exchange(data_, nullptr);
      bytes_ = 0;
      if (!errors.Check(operation, Kind::kFreeName, Kind::Free(old))) return false;
    }
    void* data = nullptr;
    if (!errors.Check(operation, Kind::kAllocateName, Kind::Allocate(&data, bytes))) return false;
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
    return errors.ok();
  }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

struct OnDevice {
  static constexpr const char* kAllocateName = "cudaMalloc";
  static constexpr const char* kFreeName = "cudaFree";
  static cudaError_t Allocate(void** data, size_t bytes) { return cudaMalloc(data, bytes); }
  static cudaError_t Free(void* data) { return cudaFree(data); }
};
struct OnHostPinned {
  static constexpr const char* kAllocateName = "cudaHostAlloc";
  static constexpr const char* kFreeName = "cudaFreeHost";
  static cudaError_t Allocate(void** data, size_t bytes) {
    return cudaHostAlloc(data, bytes, cudaHostAllocDefault);
  }
  static cudaError_t Free(void* data) { return cudaFreeHost(data); }
};
using DeviceMemory = GrowingMemory<OnDevice>;
using PinnedMemory = GrowingMemory<OnHostPinned>;

// A point in a stream that the host can wait for.
class Event {
 public:
  Event() = default;
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event() {
    if (event_ != nullptr) CheckAtEnd("cudaEventDestroy", cudaEventDestroy(event_));
  }

  bool Record(CudaErrors& errors, const char* operation, cudaStream_t stream) {
    if (event_ == nullptr &&
        !errors.Check(operation, "cudaEventCreateWithFlags",
                      cudaEventCreateWithFlags(&event_, cudaEventDisableTiming))) {
      return false;
    }
    return errors.Check(operation, "cudaEventRecord", cudaEventRecord(event_, stream));
  }
  // Until the work before the last Record is done; at once when there was none.
  bool Wait(CudaErrors& errors, const char* operation) {
    if (event_ == nullptr) return errors.ok();
    return errors.Check(operation, "cudaEventSynchronize", cudaEventSynchronize(event_));
  }
  // The same without waiting: tells in `passed` whether it is done.
  bool Query(CudaErrors& errors, const char* operation, bool& passed) {
    passed = false;
    if (!errors.ok()) return false;
    const cudaError_t code = event_ != nullptr ? cudaEventQuery(event_) : cudaSuccess;
    if (code == cudaErrorNotReady) return true;
    passed = errors.Check(operation, "cudaEventQuery", code);
    return passed;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_CUDA_MEMORY_H_
