// The cuBLASLt entry points that the device uses: products of bfloat16 or E4M3 matrices, sums in
// float32 in the order of the columns. E4M3 as on Hopper: both operands, rows of whole 16 bytes,
// and a scale for every row of both.
#include <cublasLt.h>

#include <cstdint>
#include <cstring>

#include "kernels/e4m3.h"
#include "kernels/half.h"
#include "tests/gpu_stubs/call_sites.h"
#include "tests/gpu_stubs/streams.h"

namespace tessera::gpu_stubs {
namespace {

struct Layout {
  cudaDataType type;
  int64_t rows, cols, pitch;
};
// Of both operands.
struct Description {
  bool transposed = false;  // the first
  int32_t scale_mode[2] = {CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F,
                           CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F};
  const float* scale[2] = {nullptr, nullptr};
};

const Layout& LayoutOf(cublasLtMatrixLayout_t layout) {
  return *reinterpret_cast<const Layout*>(layout);
}

float ElementAt(const void* matrix, const Layout& layout, int64_t row, int64_t column) {
  const int64_t i = column * layout.pitch + row;
  return layout.type == CUDA_R_8F_E4M3
             ? kernels::E4M3ToFloat(static_cast<const uint8_t*>(matrix)[i])
             : kernels::BFloat16ToFloat(static_cast<const uint16_t*>(matrix)[i]);
}

// What the library demands of 8-bit operands.
bool FitsF8(const Description& how, const Layout& a, const Layout& b, const Layout& out) {
  for (int i = 0; i < 2; ++i) {
    if (how.scale_mode[i] != CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F ||
        how.scale[i] == nullptr) {
      return false;
    }
  }
  return b.type == CUDA_R_8F_E4M3 && a.rows % 16 == 0 && a.cols % 16 == 0 && a.pitch % 16 == 0 &&
         b.pitch % 16 == 0 && out.pitch % 8 == 0;
}

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// out (m, n) = aᵀ (m, k) · b (k, n), all column-major.
void Multiply(const Description& how, const void* a, const Layout& a_layout, const void* b,
              const Layout& b_layout, uint16_t* out, const Layout& out_layout) {
  for (int64_t column = 0; column < out_layout.cols; ++column) {
    for (int64_t row = 0; row < out_layout.rows; ++row) {
      float sum = 0;
      for (int64_t i = 0; i < a_layout.rows; ++i) {
        sum += ElementAt(a, a_layout, i, row) * ElementAt(b, b_layout, i, column);
      }
      if (how.scale[0] != nullptr) sum *= how.scale[0][row];
      if (how.scale[1] != nullptr) sum *= how.scale[1][column];
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
                                              const void* value, size_t bytes) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  auto& how = *reinterpret_cast<Description*>(description);
  const auto take = [value, bytes](auto& target) {
    if (bytes != sizeof(target)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&target, value, sizeof(target));
    return CUBLAS_STATUS_SUCCESS;
  };
  cublasOperation_t operation = CUBLAS_OP_N;
  cublasStatus_t taken;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      taken = take(operation);
      how.transposed = operation == CUBLAS_OP_T;
      return taken;
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
      return take(how.scale_mode[0]);
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
      return take(how.scale_mode[1]);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
      return take(how.scale[0]);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
      return take(how.scale[1]);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<Description*>(description);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t pitch) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if ((type != CUDA_R_16BF && type != CUDA_R_8F_E4M3) || pitch < static_cast<int64_t>(rows)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), pitch});
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
  const auto& how = *reinterpret_cast<Description*>(description);
  if (!how.transposed || !fits || LayoutOf(out).type != CUDA_R_16BF) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (LayoutOf(a).type == CUDA_R_8F_E4M3
          ? !FitsF8(how, LayoutOf(a), LayoutOf(b), LayoutOf(out))
          : LayoutOf(b).type != CUDA_R_16BF || how.scale[0] != nullptr || how.scale[1] != nullptr) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void*,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void*, const void*,
                              cublasLtMatrixLayout_t, void* out, cublasLtMatrixLayout_t out_layout,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if (!IsAligned(a) || !IsAligned(b) || !IsAligned(out)) return CUBLAS_STATUS_INVALID_VALUE;
  const auto work = [how = *reinterpret_cast<Description*>(description), a, b, out,
                     a_shape = LayoutOf(a_layout), b_shape = LayoutOf(b_layout),
                     out_shape = LayoutOf(out_layout)] {
    if (KernelMustFail("run", "cublasLtMatmul")) return cudaErrorLaunchFailure;
    Multiply(how, a, a_shape, b, b_shape, static_cast<uint16_t*>(out), out_shape);
    return cudaSuccess;
  };
  return Enqueue(stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
