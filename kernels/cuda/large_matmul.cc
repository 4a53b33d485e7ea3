#include "kernels/cuda/large_matmul.h"

#include <bit>

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "MatMul";
constexpr int64_t kLeastRows = 64;            // below, reading the weights once is what counts
constexpr size_t kWorkspaceBytes = 32 << 20;  // what the library advises for Hopper

}  // namespace

// Column-major as the library thinks: out (w.rows, n) = wᵀ (w.rows, cols) · x (cols, n).
struct LargeMatMul::Description {
  explicit Description(CudaErrors& e) : errors(e) {}
  Description(const Description&) = delete;
  ~Description() {
    const auto destroy = [](const char* function, cublasStatus_t code) {
      CheckAtEnd(function, code);
    };
    if (out) destroy("cublasLtMatrixLayoutDestroy", cublasLtMatrixLayoutDestroy(out));
    if (x) destroy("cublasLtMatrixLayoutDestroy", cublasLtMatrixLayoutDestroy(x));
    if (w) destroy("cublasLtMatrixLayoutDestroy", cublasLtMatrixLayoutDestroy(w));
    if (product) destroy("cublasLtMatmulDescDestroy", cublasLtMatmulDescDestroy(product));
  }

  bool Layout(int64_t rows, int64_t cols, int64_t pitch, cublasLtMatrixLayout_t& layout) {
    return errors.Check(kOperation, "cublasLtMatrixLayoutCreate",
                        cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF,
                                                   static_cast<uint64_t>(rows),
                                                   static_cast<uint64_t>(cols), pitch));
  }

  bool Make(const WeightMatrix& matrix, int64_t n) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    return errors.Check(kOperation, "cublasLtMatmulDescCreate",
                        cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
           errors.Check(kOperation, "cublasLtMatmulDescSetAttribute",
                        cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA,
                                                       &transposed, sizeof(transposed))) &&
           Layout(matrix.cols, matrix.rows, BFloat16Pitch(matrix.cols), w) &&
           Layout(matrix.cols, n, matrix.cols, x) && Layout(matrix.rows, n, matrix.rows, out);
  }

  CudaErrors& errors;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
};

LargeMatMul::~LargeMatMul() {
  if (handle_ != nullptr) CheckAtEnd("cublasLtDestroy", cublasLtDestroy(handle_));
}

bool LargeMatMul::Fits(const MatMulProduct& product, int64_t n) {
  return n >= kLeastRows && product.bias == nullptr && product.w.rows % 8 == 0 &&
         product.w.cols % 8 == 0;
}

bool LargeMatMul::Start() {
  if (handle_ != nullptr) return errors_.ok();
  return errors_.Check(kOperation, "cublasLtCreate", cublasLtCreate(&handle_)) &&
         workspace_.Reserve(errors_, kOperation, kWorkspaceBytes);
}

const BFloat16* LargeMatMul::AsBFloat16(const WeightMatrix& w) {
  if (w.dtype == DType::kBF16) return reinterpret_cast<const BFloat16*>(w.data);
  const auto bytes = static_cast<size_t>(w.rows * BFloat16Pitch(w.cols)) * sizeof(BFloat16);
  if (bytes > rounded_.bytes()) outgrown_.push_back(std::exchange(rounded_, DeviceMemory()));
  if (!rounded_.Reserve(errors_, kOperation, bytes)) return nullptr;
  auto* const rounded = rounded_.as<BFloat16>();
  return errors_.CheckLaunch(kOperation, LaunchDequantize(w, rounded, stream_)) ? rounded : nullptr;
}

bool LargeMatMul::Choose(const Description& description,
                         std::optional<cublasLtMatmulAlgo_t>& algorithm) {
  cublasLtMatmulPreference_t preference = nullptr;
  if (!errors_.Check(kOperation, "cublasLtMatmulPreferenceCreate",
                     cublasLtMatmulPreferenceCreate(&preference))) {
    return false;
  }
  const size_t workspace = kWorkspaceBytes;
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  if (errors_.Check(kOperation, "cublasLtMatmulPreferenceSetAttribute",
                    cublasLtMatmulPreferenceSetAttribute(
                        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                        sizeof(workspace)))) {
    const cublasStatus_t asked = cublasLtMatmulAlgoGetHeuristic(
        handle_, description.product, description.w, description.x, description.out,
        description.out, preference, 1, &found, &count);
    // "Not supported" is an answer: no algorithm for this shape.
    if (asked != CUBLAS_STATUS_NOT_SUPPORTED) {
      errors_.Check(kOperation, "cublasLtMatmulAlgoGetHeuristic", asked);
    }
  }
  errors_.Check(kOperation, "cublasLtMatmulPreferenceDestroy",
                cublasLtMatmulPreferenceDestroy(preference));
  if (count > 0 && found.state == CUBLAS_STATUS_SUCCESS) algorithm = found.algo;
  return errors_.ok();
}

bool LargeMatMul::Multiply(const MatMulProduct& product, const BFloat16* x, int64_t n) {
  if (!Start()) return false;
  Description description(errors_);
  if (!description.Make(product.w, n)) return false;
  const Shape shape(product.w.rows, product.w.cols,
                    static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))));
  auto [known, is_new] = algorithms_.try_emplace(shape);
  if (is_new && !Choose(description, known->second)) return false;
  if (!known->second) {
    return errors_.CheckLaunch(kOperation, LaunchTiledMatMul(&product, 1, x, n, stream_));
  }
  const BFloat16* const w = AsBFloat16(product.w);
  if (w == nullptr) return false;
  const float one = 1, zero = 0;
  return errors_.Check(
      kOperation, "cublasLtMatmul",
      cublasLtMatmul(handle_, description.product, &one, w, description.w, x, description.x, &zero,
                     product.out, description.out, product.out, description.out, &*known->second,
                     workspace_.data(), workspace_.bytes(), stream_));
}

}  // namespace tessera::kernels::cuda
