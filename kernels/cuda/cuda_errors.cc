#include "kernels/cuda/cuda_errors.h"

#include <cstdio>

#include "absl/strings/str_cat.h"

namespace tessera::kernels::cuda {
namespace {

std::string Text(cudaError_t code) {
  return absl::StrCat(cudaGetErrorString(code), " (", cudaGetErrorName(code), ")");
}

std::string Text(cublasStatus_t code) {
  return absl::StrCat(cublasLtGetStatusString(code), " (", cublasLtGetStatusName(code), ")");
}

absl::StatusCode CodeOf(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? absl::StatusCode::kResourceExhausted
                                           : absl::StatusCode::kInternal;
}

}  // namespace

bool CudaErrors::Check(const char* operation, const char* function, cudaError_t code) {
  if (code != cudaSuccess && ok()) first_ = StatusOf(operation, function, code);
  return ok();
}

bool CudaErrors::Check(const char* operation, const char* function, cublasStatus_t code) {
  if (code != CUBLAS_STATUS_SUCCESS && ok()) {
    Fail(operation, absl::StatusCode::kInternal, absl::StrCat(function, ": ", Text(code)));
  }
  return ok();
}

const absl::Status& CudaErrors::Fail(const char* operation, absl::StatusCode code,
                                     const std::string& problem) {
  if (ok()) first_ = absl::Status(code, absl::StrCat(device_, ": ", operation, ": ", problem));
  return first_;
}

absl::Status CudaErrors::StatusOf(const char* operation, const char* function,
                                  cudaError_t code) const {
  return absl::Status(CodeOf(code),
                      absl::StrCat(device_, ": ", operation, ": ", function, ": ", Text(code)));
}

void CheckAtEnd(const char* function, cudaError_t code) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "cuda: %s: %s\n", function, Text(code).c_str());
}

void CheckAtEnd(const char* function, cublasStatus_t code) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuda: %s: %s\n", function, Text(code).c_str());
}

}  // namespace tessera::kernels::cuda
