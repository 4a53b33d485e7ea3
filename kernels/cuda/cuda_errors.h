// What the libraries answer, remembered: the first call that failed, by operation, function and the
// library's own text. Every CUDA and cuBLAS call of the device passes through here, none goes
// unchecked; after the first failure the device is dead and every Sync says why.
//
//   CudaErrors errors("cuda 0");
//   if (!errors.Check("BeginStep", "cudaMemcpyAsync", cudaMemcpyAsync(...))) return errors.first();
//   // INTERNAL: cuda 0: BeginStep: cudaMemcpyAsync: invalid argument (cudaErrorInvalidValue)
//
// Threads: as the device, one caller at a time.
#ifndef TESSERA_KERNELS_CUDA_CUDA_ERRORS_H_
#define TESSERA_KERNELS_CUDA_CUDA_ERRORS_H_

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "absl/status/status.h"

namespace tessera::kernels::cuda {

class CudaErrors {
 public:
  explicit CudaErrors(std::string device) : device_(std::move(device)) {}

  bool ok() const { return first_.ok(); }
  // OK, or what ended the device.
  const absl::Status& first() const { return first_; }

  // Whether the device is well: `code` is success, and nothing failed before. `operation` of ours,
  // `function` of the library's.
  bool Check(const char* operation, const char* function, cudaError_t code);
  bool Check(const char* operation, const char* function, cublasStatus_t code);
  // What a launcher of ops.h returned.
  bool CheckLaunch(const char* operation, int code) {
    return Check(operation, "kernel launch", static_cast<cudaError_t>(code));
  }
  // Ends the device for a reason of ours. Returns first().
  const absl::Status& Fail(const char* operation, absl::StatusCode code, const std::string& problem);

  // RESOURCE_EXHAUSTED or INTERNAL of a call whose failure does not end the device (no memory).
  absl::Status StatusOf(const char* operation, const char* function, cudaError_t code) const;

 private:
  const std::string device_;
  absl::Status first_;
};

// For calls at the end of an object's life, where nobody is left to ask for a Status: a failure is
// printed as one line.
void CheckAtEnd(const char* function, cudaError_t code);
void CheckAtEnd(const char* function, cublasStatus_t code);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_CUDA_ERRORS_H_
