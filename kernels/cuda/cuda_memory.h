// Memory of the GPU and pinned memory of the host that frees itself, and one that grows.
//
//   PinnedMemory host;
//   if (!host.Grow(errors, "BeginStep", bytes, outgrown)) return errors.first();
//   ... once the stream has nothing to do: outgrown.Free(errors, "Idle")
//
// Freeing waits for the GPU (cudaFree and cudaFreeHost do), and a GPU may be at work on an exchange
// that a dead rank never joins: there is no end to that wait. So what has been outgrown stays until
// the GPU is known to be idle.
//
// Growing loses the contents and moves the address, so it never happens while a graph is recorded:
// an operation grows its memory when it runs unrecorded for the first time.
#ifndef TESSERA_KERNELS_CUDA_CUDA_MEMORY_H_
#define TESSERA_KERNELS_CUDA_CUDA_MEMORY_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_errors.h"

namespace tessera::kernels::cuda {

class Outgrown;

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

  // Both: whether there are at least that many bytes now; a failure ends the device. Reserve waits
  // for the GPU where there were fewer before: for when nothing but copies can be in its stream.
  bool Reserve(CudaErrors& errors, const char* operation, size_t bytes) {
    if (bytes <= bytes_) return errors.ok();
    return Free(errors, operation) && Allocate(errors, operation, bytes);
  }
  bool Grow(CudaErrors& errors, const char* operation, size_t bytes, Outgrown& outgrown);

  // Waits for the GPU.
  bool Free(CudaErrors& errors, const char* operation) {
    if (data_ == nullptr) return errors.ok();
    bytes_ = 0;
    return errors.Check(operation, Kind::kFreeName, Kind::Free(std::exchange(data_, nullptr)));
  }

 private:
  bool Allocate(CudaErrors& errors, const char* operation, size_t bytes) {
    void* data = nullptr;
    if (!errors.Check(operation, Kind::kAllocateName, Kind::Allocate(&data, bytes))) return false;
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
    return errors.ok();
  }

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
using DeviceBuffer = GrowingMemory<OnDevice>;
using PinnedMemory = GrowingMemory<OnHostPinned>;

// Memory that was too small, which work in the stream may still use.
class Outgrown {
 public:
  void Keep(DeviceBuffer memory) { on_device_.push_back(std::move(memory)); }
  void Keep(PinnedMemory memory) { pinned_.push_back(std::move(memory)); }

  // To be called when the stream has nothing to do. A failure ends the device.
  bool Free(CudaErrors& errors, const char* operation) {
    for (DeviceBuffer& memory : on_device_) memory.Free(errors, operation);
    for (PinnedMemory& memory : pinned_) memory.Free(errors, operation);
    on_device_.clear();
    pinned_.clear();
    return errors.ok();
  }

 private:
  std::vector<DeviceBuffer> on_device_;
  std::vector<PinnedMemory> pinned_;
};

template <typename Kind>
bool GrowingMemory<Kind>::Grow(CudaErrors& errors, const char* operation, size_t bytes,
                               Outgrown& outgrown) {
  if (bytes <= bytes_) return errors.ok();
  if (data_ != nullptr) outgrown.Keep(std::exchange(*this, GrowingMemory()));
  return Allocate(errors, operation, bytes);
}

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
  // As Wait without waiting: tells in `passed` whether it is done.
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
