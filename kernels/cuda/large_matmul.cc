#include "kernels/cuda/large_matmul.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/packed_weights.h"

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "MatMul";
constexpr int64_t kLeastRows = 64;            // below, reading the weights once is what counts
constexpr size_t kWorkspaceBytes = 32 << 20;  // what the library advises for Hopper
// Rows of x multiplied at once as 8-bit floats: enough to keep a card busy, and the memory for them
// does not move when a longer step comes, so that recorded steps may use it.
constexpr int64_t kF8Rows = 2048;

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

  bool Layout(cudaDataType type, int64_t rows, int64_t cols, int64_t pitch,
              cublasLtMatrixLayout_t& layout) {
    return errors.Check(kOperation, "cublasLtMatrixLayoutCreate",
                        cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows),
                                                   static_cast<uint64_t>(cols), pitch));
  }

  template <typename T>
  bool Set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return errors.Check(kOperation, "cublasLtMatmulDescSetAttribute",
                        cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)));
  }

  // Operands of `type`, w's rows `pitch` elements apart.
  bool Make(const WeightMatrix& matrix, int64_t n, cudaDataType type, int64_t pitch) {
    return errors.Check(kOperation, "cublasLtMatmulDescCreate",
                        cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
           Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T) &&
           Layout(type, matrix.cols, matrix.rows, pitch, w) &&
           Layout(type, matrix.cols, n, matrix.cols, x) &&
           Layout(CUDA_R_16BF, matrix.rows, n, matrix.rows, out);
  }

  // Multiplies every output by the scale of its row of w and by that of its row of x.
  bool Scale(const float* w_scales, const float* x_scales) {
    return Set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F) &&
           Set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F) &&
           Set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w_scales) &&
           Set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x_scales);
  }

  CudaErrors& errors;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
};

LargeMatMul::~LargeMatMul() {
  if (handle_ != nullptr) CheckAtEnd("cublasLtDestroy", cublasLtDestroy(handle_));
}

bool LargeMatMul::Takes(const MatMulProduct& product, int64_t n) const {
  const bool fits = product.bias == nullptr && product.w.rows % 8 == 0 && product.w.cols % 8 == 0;
  if (!deterministic_) return fits && n >= kLeastRows;
  return fits && (product.w.dtype == DType::kBF16 || InF8(product));
}

bool LargeMatMul::Start() {
  if (handle_ != nullptr) return errors_.ok();
  return errors_.Check(kOperation, "cublasLtCreate", cublasLtCreate(&handle_)) &&
         workspace_.Reserve(errors_, kOperation, kWorkspaceBytes);
}

bool LargeMatMul::Grow(DeviceBuffer& memory, int64_t bytes) {
  return memory.Grow(errors_, kOperation, static_cast<size_t>(bytes), outgrown_);
}

bool LargeMatMul::Copy(BFloat16* to, const BFloat16* from, int64_t count) {
  return errors_.Check(kOperation, "cudaMemcpyAsync",
                       cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(BFloat16),
                                       cudaMemcpyDeviceToDevice, stream_));
}

const BFloat16* LargeMatMul::AsBFloat16(const WeightMatrix& w) {
  if (w.dtype == DType::kBF16) return reinterpret_cast<const BFloat16*>(w.data);
  if (!Grow(rounded_, w.rows * BFloat16Pitch(w.cols) * int64_t{sizeof(BFloat16)})) return nullptr;
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
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return errors_.Check(
        kOperation, "cublasLtMatmulPreferenceSetAttribute",
        cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
  };
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  if (prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}) &&
      (!deterministic_ || prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                 uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE}))) {
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
  if (!errors_.ok() || count == 0 || found.state != CUBLAS_STATUS_SUCCESS) return errors_.ok();
  bool sequential = true;
  if (deterministic_ && !CheckSequence(found.algo, sequential)) return false;
  if (sequential) algorithm = found.algo;
  return true;
}

bool LargeMatMul::CheckSequence(const cublasLtMatmulAlgo_t& algorithm, bool& sequential) {
  const auto read = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, auto& value) {
    size_t written = 0;
    return errors_.Check(kOperation, "cublasLtMatmulAlgoConfigGetAttribute",
                         cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value,
                                                              sizeof(value), &written));
  };
  int32_t parts = 1;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  if (!read(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, parts) ||
      !read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, reduction)) {
    return false;
  }
  sequential = parts <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
  return true;
}

const std::optional<cublasLtMatmulAlgo_t>* LargeMatMul::AlgorithmFor(const Description& description,
                                                                     const WeightMatrix& w,
                                                                     int64_t n, bool f8) {
  const Shape shape(w.rows, w.cols, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))),
                    f8);
  auto [known, is_new] = algorithms_.try_emplace(shape);
  return is_new && !Choose(description, known->second) ? nullptr : &known->second;
}

bool LargeMatMul::Issue(const Description& description, const cublasLtMatmulAlgo_t& algorithm,
                        const void* w, const void* x, BFloat16* out) {
  const float one = 1, zero = 0;
  return errors_.Check(
      kOperation, "cublasLtMatmul",
      cublasLtMatmul(handle_, description.product, &one, w, description.w, x, description.x, &zero,
                     out, description.out, out, description.out, &algorithm, workspace_.data(),
                     workspace_.bytes(), stream_));
}

bool LargeMatMul::MultiplyBFloat16(const MatMulProduct& product, const BFloat16* x, int64_t n) {
  Description description(errors_);
  if (!description.Make(product.w, n, CUDA_R_16BF, BFloat16Pitch(product.w.cols))) return false;
  const auto* const algorithm = AlgorithmFor(description, product.w, n, false);
  if (algorithm == nullptr) return false;
  if (!*algorithm) {
    return errors_.CheckLaunch(kOperation, LaunchTiledMatMul(&product, 1, x, n, stream_));
  }
  const BFloat16* const w = AsBFloat16(product.w);
  return w != nullptr && Issue(description, **algorithm, w, x, product.out);
}

// The library takes operands of 8-bit floats only with rows of whole 16 bytes.
bool LargeMatMul::InF8(const MatMulProduct& product) const {
  const WeightMatrix& w = product.w;
  return has_f8_ && w.dtype == DType::kF8E4M3 && w.rows % 16 == 0 && w.cols % 16 == 0;
}

bool LargeMatMul::QuantizeInput(const BFloat16* x, int64_t n, int64_t cols) {
  if (!Grow(input_f8_, kF8Rows * (cols + int64_t{sizeof(float)}))) return false;
  auto* const scales = input_f8_.as<float>();
  return errors_.CheckLaunch(
      kOperation, LaunchQuantizeRows(x, n, cols, reinterpret_cast<uint8_t*>(scales + kF8Rows),
                                     scales, stream_));
}

bool LargeMatMul::MultiplyF8(const MatMulProduct& product, const BFloat16* x, int64_t n) {
  const WeightMatrix& w = product.w;
  const auto* const x_scales = input_f8_.as<const float>();
  const auto* const w_scales =
      reinterpret_cast<const float*>(w.data + PackedLayoutOf(w.dtype, w.rows, w.cols).row_scale);
  Description description(errors_);
  if (!description.Make(w, n, CUDA_R_8F_E4M3, F8Pitch(w.cols)) ||
      !description.Scale(w_scales, x_scales)) {
    return false;
  }
  const auto* const algorithm = AlgorithmFor(description, w, n, true);
  if (algorithm == nullptr) return false;
  if (*algorithm) return Issue(description, **algorithm, w.data, x_scales + kF8Rows, product.out);
  if (!deterministic_) return MultiplyBFloat16(product, x, n);
  return errors_.CheckLaunch(kOperation, LaunchTiledMatMul(&product, 1, x, n, stream_));
}

bool LargeMatMul::MultiplyFixed(absl::Span<const MatMulProduct> products, const BFloat16* x,
                                int64_t n) {
  for (int64_t first = 0; first < n; first += kFixedRows) {
    MatMulProduct here[kMaxProducts];
    for (size_t i = 0; i < products.size(); ++i) {
      here[i] = products[i];
      here[i].out += first * products[i].w.rows;
    }
    if (!MultiplyFixedRows({here, products.size()}, x + first * products[0].w.cols,
                           std::min(kFixedRows, n - first))) {
      return false;
    }
  }
  return true;
}

// Behind the rows of x and out stands what is not to be read or written, so that fewer than
// kFixedRows of them go through memory of their own.
bool LargeMatMul::MultiplyFixedRows(absl::Span<const MatMulProduct> products, const BFloat16* x,
                                    int64_t count) {
  const int64_t cols = products[0].w.cols;
  if (count < kFixedRows) {
    if (!Grow(fixed_x_, kFixedRows * cols * int64_t{sizeof(BFloat16)}) ||
        !Copy(fixed_x_.as<BFloat16>(), x, count * cols)) {
      return false;
    }
    x = fixed_x_.as<const BFloat16>();
  }
  const auto in_f8 = [this](const MatMulProduct& product) { return InF8(product); };
  if (std::any_of(products.begin(), products.end(), in_f8) && !QuantizeInput(x, count, cols)) {
    return false;
  }
  for (MatMulProduct product : products) {
    BFloat16* const out = product.out;
    if (count < kFixedRows) {
      if (!Grow(fixed_out_, kFixedRows * product.w.rows * int64_t{sizeof(BFloat16)})) return false;
      product.out = fixed_out_.as<BFloat16>();
    }
    if (!(InF8(product) ? MultiplyF8(product, x, kFixedRows)
                        : MultiplyBFloat16(product, x, kFixedRows)) ||
        (count < kFixedRows && !Copy(out, product.out, count * product.w.rows))) {
      return false;
    }
  }
  return true;
}

bool LargeMatMul::Multiply(absl::Span<const MatMulProduct> products, const BFloat16* x, int64_t n) {
  if (!Start()) return false;
  if (deterministic_) return MultiplyFixed(products, x, n);
  bool some_in_f8 = false;
  for (const MatMulProduct& product : products) {
    if (InF8(product)) {
      some_in_f8 = true;
    } else if (!MultiplyBFloat16(product, x, n)) {
      return false;
    }
  }
  for (int64_t first = 0; some_in_f8 && first < n; first += kF8Rows) {
    const int64_t count = std::min(kF8Rows, n - first);
    const int64_t cols = products[0].w.cols;
    if (!QuantizeInput(x + first * cols, count, cols)) return false;
    for (MatMulProduct product : products) {
      product.out += first * product.w.rows;
      if (InF8(product) && !MultiplyF8(product, x + first * cols, count)) return false;
    }
  }
  return true;
}

}  // namespace tessera::kernels::cuda
