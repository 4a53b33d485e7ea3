// The cuBLASLt entry points that the device uses: products of bfloat16 or E4M3 matrices, sums in
// float32. E4M3 as on Hopper: both operands, rows of whole 16 bytes, and a scale for every row of
// both.
//
// Which algorithm it advises depends on the number of rows, as the library's does, and so do the
// bits: where the sum begins, and how many parts it is cut into where that is allowed.
#include "kernels/simulated/cublaslt.h"

#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <mutex>

#include "kernels/e4m3.h"
#include "kernels/half.h"
#include "kernels/simulated/call_sites.h"
#include "kernels/simulated/streams.h"

namespace tessera::gpu_stubs {
namespace {

struct Layout {
  cudaDataType type;
  int64_t rows, cols, pitch;
};
// How both operands are described.
struct Description {
  bool transposed = false;  // the first
  int32_t scale_mode[2] = {CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F,
                           CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F};
  const float* scale[2] = {nullptr, nullptr};
};

// What an algorithm is to us.
struct Algorithm {
  uint64_t parts;  // that the sum is cut into
  uint64_t first;  // column of w that the sum begins with, modulo their number
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

struct Log {
  std::mutex mu;
  std::vector<LibraryAnswer> answers;
  std::vector<LibraryShape> products;
  int forced_parts = 0;
};
Log& TheLog() {
  static Log* const log = new Log;
  return *log;
}

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
void Multiply(const Description& how, const Algorithm& algorithm, const void* a,
              const Layout& a_layout, const void* b, const Layout& b_layout, uint16_t* out,
              const Layout& out_layout) {
  for (int64_t column = 0; column < out_layout.cols; ++column) {
    for (int64_t row = 0; row < out_layout.rows; ++row) {
      const int64_t k = a_layout.rows;
      float sums[8] = {};
      int64_t i = static_cast<int64_t>(algorithm.first) % k;
      for (int64_t step = 0; step < k; ++step, i = i + 1 < k ? i + 1 : 0) {
        sums[static_cast<uint64_t>(i) % algorithm.parts] +=
            ElementAt(a, a_layout, i, row) * ElementAt(b, b_layout, i, column);
      }
      float sum = 0;
      for (const float part : sums) sum += part;
      if (how.scale[0] != nullptr) sum *= how.scale[0][row];
      if (how.scale[1] != nullptr) sum *= how.scale[1][column];
      out[column * out_layout.pitch + row] = kernels::FloatToBFloat16(sum);
    }
  }
}

// Other numbers of rows, other sums.
Algorithm Advise(const LibraryShape& shape, uint32_t reductions) {
  Algorithm algorithm = {.parts = 1, .first = static_cast<uint64_t>(shape.n * 7)};
  if (reductions != CUBLASLT_REDUCTION_SCHEME_NONE) {
    algorithm.parts = 1 + static_cast<uint64_t>(shape.n) % 4;
  }
  Log& log = TheLog();
  const std::lock_guard<std::mutex> lock(log.mu);
  if (log.forced_parts > 0) algorithm.parts = static_cast<uint64_t>(log.forced_parts);
  log.answers.push_back({shape, reductions, static_cast<int>(algorithm.parts)});
  return algorithm;
}

}  // namespace

std::vector<LibraryAnswer> LibraryAnswers() {
  const std::lock_guard<std::mutex> lock(TheLog().mu);
  return TheLog().answers;
}
std::vector<LibraryShape> LibraryProducts() {
  const std::lock_guard<std::mutex> lock(TheLog().mu);
  return TheLog().products;
}
void ForgetLibraryCalls() {
  const std::lock_guard<std::mutex> lock(TheLog().mu);
  TheLog().answers.clear();
  TheLog().products.clear();
}
void ForceLibraryParts(int parts) {
  const std::lock_guard<std::mutex> lock(TheLog().mu);
  TheLog().forced_parts = parts;
}

}  // namespace tessera::gpu_stubs

using namespace tessera::gpu_stubs;  // NOLINT: the entry points of the C library follow

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                  : "CUBLAS_STATUS_INTERNAL_ERROR";
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "the function failed to launch on the GPU"
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
  // The reductions that are allowed.
  *preference =
      reinterpret_cast<cublasLtMatmulPreference_t>(new uint32_t(CUBLASLT_REDUCTION_SCHEME_MASK));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    return bytes == sizeof(uint64_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  }
  if (attribute != CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (bytes != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(preference, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  delete reinterpret_cast<uint32_t*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  *count = 0;
  const bool fits = LayoutOf(a).rows == LayoutOf(b).rows &&
                    LayoutOf(a).cols == LayoutOf(out).rows &&
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
  const Algorithm advised = Advise({LayoutOf(out).rows, LayoutOf(a).rows, LayoutOf(out).cols},
                                   *reinterpret_cast<const uint32_t*>(preference));
  std::memcpy(&results[0].algo, &advised, sizeof(advised));
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  Algorithm algorithm = {};
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  int32_t number = 0;
  if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) {
    number = static_cast<int32_t>(algorithm.parts);
  } else if (attribute == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) {
    number = algorithm.parts > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                 : CUBLASLT_REDUCTION_SCHEME_NONE;
  } else {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (bytes != sizeof(number)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, &number, sizeof(number));
  *written = sizeof(number);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void*,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void*, const void*,
                              cublasLtMatrixLayout_t, void* out, cublasLtMatrixLayout_t out_layout,
                              const cublasLtMatmulAlgo_t* algo, void*, size_t,
                              cudaStream_t stream) {
  TESSERA_STUB_ENTRY(CUBLAS_STATUS_EXECUTION_FAILED);
  if (!IsAligned(a) || !IsAligned(b) || !IsAligned(out)) return CUBLAS_STATUS_INVALID_VALUE;
  Algorithm algorithm = {};
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  {
    const std::lock_guard<std::mutex> lock(TheLog().mu);
    TheLog().products.push_back(
        {LayoutOf(out_layout).rows, LayoutOf(a_layout).rows, LayoutOf(out_layout).cols});
  }
  const auto work = [algorithm, how = *reinterpret_cast<Description*>(description), a, b, out,
                     a_shape = LayoutOf(a_layout), b_shape = LayoutOf(b_layout),
                     out_shape = LayoutOf(out_layout)] {
    if (KernelMustFail("run", "cublasLtMatmul")) return cudaErrorLaunchFailure;
    Multiply(how, algorithm, a, a_shape, b, b_shape, static_cast<uint16_t*>(out), out_shape);
    return cudaSuccess;
  };
  return Enqueue(stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
