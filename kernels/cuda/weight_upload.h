// Weights on their way from the host into the GPU's packed layout: packed into one pinned buffer
// while the GPU still copies from another.
//
//   WeightUpload upload(errors, stream);
//   upload.Write(w, row, count, rows_data);   // rows_data may be reused at once
//   upload.Release();                         // when all is loaded: gives the pinned memory back
#ifndef TESSERA_KERNELS_CUDA_WEIGHT_UPLOAD_H_
#define TESSERA_KERNELS_CUDA_WEIGHT_UPLOAD_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cuda {

class WeightUpload {
 public:
  WeightUpload(CudaErrors& errors, cudaStream_t stream) : errors_(errors), stream_(stream) {}

  // As Device::WriteWeights; the copy runs on in the background. False: see errors.
  bool Write(const WeightMatrix& w, int64_t row, int64_t count, const std::byte* rows_data);
  // Waits for the copies and frees the buffers.
  bool Release();

 private:
  static constexpr int kBuffers = 3;
  struct Buffer {
    PinnedMemory memory;
    Event copied;
  };

  CudaErrors& errors_;
  const cudaStream_t stream_;
  Buffer buffers_[kBuffers];
  int next_ = 0;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_WEIGHT_UPLOAD_H_
