// Weights of any type rounded to bfloat16, row-major, for a product through cuBLASLt. Reads the
// matrix once and writes 2 bytes per weight: bound by memory, one block per tile of 16 × 64.
#include "kernels/cuda/weight_tiles.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 128;  // 8 columns each

template <DType kType>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 8) void DequantizeKernel(WeightPlanes w,
                                                                        View<BFloat16> out) {
  const int64_t row = int64_t{BlockX()} / w.col_tiles * 16 + ThreadIndex() / 8;
  const int64_t col = int64_t{BlockX()} % w.col_tiles * 64 + ThreadIndex() % 8 * 8;
  if (row >= w.rows) return;
  Floats8 weights;
  TESSERA_UNROLL
  for (int i = 0; i < 8; ++i) weights.v[i] = WeightAt<kType>(w, row, col + i);
  out.SetBits(row * w.col_tiles * 64 + col, PackBf16(weights));
}

}  // namespace

int LaunchDequantize(const WeightMatrix& w, BFloat16* out, Stream stream) {
  const WeightPlanes planes = PlanesOf(w);
  if (w.rows == 0 || w.cols == 0) return kLaunched;
  return VisitWeightType(w.dtype, [&]<DType kType>() {
    return Launch("Dequantize", DequantizeKernel<kType>,
                  {.x = planes.row_tiles * planes.col_tiles, .threads = kThreads}, stream, planes,
                  TESSERA_VIEW(out, w.rows * BFloat16Pitch(w.cols)));
  });
}

}  // namespace tessera::kernels::cuda
