// The DeviceMemory of a GPU.
#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device_impl.h"

namespace tessera::kernels::cuda {
namespace {

// A copy to the GPU is several times as fast as one thread reads and converts.
constexpr int kWeightReaders = 4;

void FreeOnDevice(std::byte* data) { CheckAtEnd("cudaFree", cudaFree(data)); }

}  // namespace

absl::StatusOr<Device::Buffer> CudaDevice::Allocate(size_t bytes) {
  if (!errors_.ok()) return errors_.first();
  void* data = nullptr;
  const cudaError_t code = cudaMalloc(&data, std::max<size_t>(bytes, 1));
  if (code == cudaErrorMemoryAllocation) {
    // The caller's to handle: the device goes on.
    return errors_.StatusOf(absl::StrCat("Allocate of ", bytes, " bytes").c_str(), "cudaMalloc",
                            code);
  }
  if (!errors_.Check("Allocate", "cudaMalloc", code)) return errors_.first();
  return Buffer(static_cast<std::byte*>(data), &FreeOnDevice);
}

absl::StatusOr<bool> CudaDevice::Idle() {
  if (!errors_.ok()) return errors_.first();
  const cudaError_t code = cudaStreamQuery(stream_);
  if (code == cudaErrorNotReady) return false;
  if (!errors_.Check("Idle", "cudaStreamQuery", code) || !FreeOutgrown("Idle")) {
    return errors_.first();
  }
  return true;
}

int CudaDevice::WeightReaders() const { return kWeightReaders; }

absl::Status CudaDevice::WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                                      const std::byte* rows_data) {
  upload_->Write(w, row, count, rows_data);
  return errors_.first();
}

absl::Status CudaDevice::WriteBytes(const void* from, size_t bytes, void* to) {
  Copy("WriteBytes", to, from, bytes, cudaMemcpyHostToDevice);
  return Wait("WriteBytes");
}

absl::Status CudaDevice::ReadBytes(const void* from, size_t bytes, void* to) {
  Copy("ReadBytes", to, from, bytes, cudaMemcpyDeviceToHost);
  return Wait("ReadBytes");
}

absl::Status CudaDevice::ReadActivations(const Activation* from, int64_t count, float* to) {
  constexpr char kOperation[] = "ReadActivations";
  if (count == 0) return errors_.first();
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
      host_floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
      errors_.CheckLaunch(kOperation,
                          LaunchToFloat(Bf16(from), count, floats_.as<float>(), stream_))) {
    Copy(kOperation, host_floats_.data(), floats_.data(), bytes, cudaMemcpyDeviceToHost);
  }
  if (absl::Status waited = Wait(kOperation); !waited.ok()) return waited;
  std::memcpy(to, host_floats_.data(), bytes);
  return absl::OkStatus();
}

absl::Status CudaDevice::WriteActivations(const float* from, int64_t count, Activation* to) {
  constexpr char kOperation[] = "WriteActivations";
  if (count == 0) return errors_.first();
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
      host_floats_.Grow(errors_, kOperation, bytes, outgrown_)) {
    std::memcpy(host_floats_.data(), from, bytes);
    Copy(kOperation, floats_.data(), host_floats_.data(), bytes, cudaMemcpyHostToDevice);
    errors_.CheckLaunch(kOperation, LaunchFromFloat(floats_.as<float>(), count, Bf16(to), stream_));
  }
  return Wait(kOperation);
}

absl::Status CudaDevice::ReadPartials(const Partial* from, int64_t count, double* to) {
  host_partials_.resize(count);
  absl::Status read = ReadActivations(AsActivation(from), count, host_partials_.data());
  std::copy(host_partials_.begin(), host_partials_.end(), to);
  return read;
}

absl::Status CudaDevice::WritePartials(const double* from, int64_t count, Partial* to) {
  host_partials_.assign(from, from + count);
  return WriteActivations(host_partials_.data(), count, AsActivation(to));
}

absl::StatusOr<const float*> CudaDevice::ReadFloats(const float* from, int64_t count) {
  constexpr char kOperation[] = "ReadFloats";
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (host_floats_.Grow(errors_, kOperation, std::max<size_t>(bytes, 1), outgrown_)) {
    Copy(kOperation, host_floats_.data(), from, bytes, cudaMemcpyDeviceToHost);
  }
  if (absl::Status waited = Wait(kOperation); !waited.ok()) return waited;
  return host_floats_.as<const float>();
}

absl::Status CudaDevice::Wait(const char* operation) {
  if (!errors_.ok()) return errors_.first();
  if (errors_.Check(operation, "cudaStreamSynchronize", cudaStreamSynchronize(stream_))) {
    FreeOutgrown(operation);
  }
  return errors_.first();
}

bool CudaDevice::FreeOutgrown(const char* operation) {
  return graphs_->FreeRetired(operation) && outgrown_.Free(errors_, operation);
}

void CudaDevice::Copy(const char* operation, void* to, const void* from, size_t bytes,
                      cudaMemcpyKind kind) {
  if (!errors_.ok() || bytes == 0) return;
  errors_.Check(operation, "cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, stream_));
}

}  // namespace tessera::kernels::cuda
