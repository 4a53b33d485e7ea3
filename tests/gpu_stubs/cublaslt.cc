// The cuBLASLt entry points that the device uses: products of bfloat16 matrices, sums in float32 in
// the order of the columns.
#include <cublasLt.h>

#include <cstdint>
#include <cstring>

#include "kernels/half.h"
#include "tests/gpu_stubs/call_sites.h"
#include "tests/gpu_stubs/streams.h"

namespace tessera::gpu_stubs {
namespace {

struct Layout {
  int64_t rows, cols, pitch;
};
struct Description {
  bool transposed = false;  // the first operand
};

const Layout& LayoutOf(cublasLtMatrixLayout_t layout) {
  return *reinterpret_cast<const Layout*>(layout);
}

// out (m, n) = aᵀ (m, k) · b (k, n), all column-major.
void Multiply(const uint16_t* a, const Layout& a_layout, const uint16_t* b, const Layout& b_layout,
              uint16_t* out, const Layout& out_layout) {
  for (int64_t column = 0; column < out_layout.cols; ++column) {
    for (int64_t row = 0; row < out_layout.rows; ++row) {
      float sum = 0;
      for (int64_t i = 0; i < a_layout.rows; ++i) {
        sum += kernels::BFloat16ToFloat(a[row * a_layout.pitch + i]) *
               kernels::BFloat16ToFloat(b[column * b_layout.pitch + i]);
      }
      out[column * out_layout.pitch + row] = kernels::FloatToBFloat16(sum);
    }
  }
}

}  // namespace
}  // namespace tessera::gpu_stubs

using namespace tessera::gpu_stubs;  // NOLINT: the entry points of the C library follow

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                  : "CUBLAS_STATUS_INTERNAL_ERROR";
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED
             ? "the function failed to launch on the GPU"
             : "an internal operation failed";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t,
                                        cudaDataType_t) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  *description = reinterpret_cast<cublasLtMatmulDesc_t>(new Description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if (attribute != CUBLASLT_MATMUL_DESC_TRANSA) return CUBLAS_STATUS_NOT_SUPPORTED;
  cublasOperation_t operation;
  std::memcpy(&operation, value, sizeof(operation));
  reinterpret_cast<Description*>(description)->transposed = operation == CUBLAS_OP_T;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<Description*>(description);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t pitch) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if (type != CUDA_R_16BF || pitch < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new Layout{static_cast<int64_t>(rows), static_cast<int64_t>(cols), pitch});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<Layout*>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<int*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  *count = 0;
  const bool fits = LayoutOf(a).rows == LayoutOf(b).rows && LayoutOf(a).cols == LayoutOf(out).rows &&
                    LayoutOf(b).cols == LayoutOf(out).cols;
  if (!reinterpret_cast<Description*>(description)->transposed || !fits) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void*, const void*,
                              cublasLtMatrixLayout_t, void* out, cublasLtMatrixLayout_t out_layout,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  const auto work = [a, b, out, a_shape = LayoutOf(a_layout), b_shape = LayoutOf(b_layout),
                     out_shape = LayoutOf(out_layout)] {
    if (KernelMustFail("run", "cublasLtMatmul")) return cudaErrorLaunchFailure;
    Multiply(static_cast<const uint16_t*>(a), a_shape, static_cast<const uint16_t*>(b), b_shape,
             static_cast<uint16_t*>(out), out_shape);
    return cudaSuccess;
  };
  return Enqueue(stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
