// Weights of any type rounded to bfloat16, row-major, for a product through cuBLASLt: a warp per tile
// of 16 × 64, decoded as for the tensor cores. Reads the matrix once and writes 2 bytes per weight:
// bound by memory.
#include "kernels/cuda/weight_tiles.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;

// The lane's 8 weights of row g + 8 half in block b, in the order of its columns. scale: of the
// row, kIsRowScaled only.
template <DType kType>
TESSERA_DEVICE Bits<4> DecodeEight(const Tile<kType, true>& tile, int b, int half, float scale) {
  Bits<4> weights;
  if constexpr (kParts<kType> > 1) {
    TESSERA_UNROLL
    for (int i = 0; i < 4; ++i) {
      weights.word[i] =
          RoundToBf16x2(tile.FloatAt(half, b, 2 * i), tile.FloatAt(half, b, 2 * i + 1));
    }
    return weights;
  }
  uint32_t a[2][4];
  tile.Fragments(b, 0, a);
  TESSERA_UNROLL
  for (int i = 0; i < 4; ++i) {
    const uint32_t codes = a[i / 2][i % 2 * 2 + half];
    if constexpr (kIsRowScaled<kType>) {
      weights.word[i] = RoundToBf16x2(LowFloat(codes) * scale, HighFloat(codes) * scale);
    } else if constexpr (kIsFloat<kType>) {
      weights.word[i] = codes;
    } else {
      // Factor times code is exact in float32 (packed types have few bits of each).
      const float factor = tile.Factor(b, half, i / 2);
      float low = MulRn(LowFloat(codes), factor);
      float high = MulRn(HighFloat(codes), factor);
      if constexpr (kHasMinimum<kType>) {
        low += tile.Minimum(b, half);
        high += tile.Minimum(b, half);
      }
      weights.word[i] = RoundToBf16x2(low, high);
    }
  }
  return weights;
}

template <DType kType>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 6) void DequantizeKernel(WeightPlanes w,
                                                                        View<BFloat16> out) {
  const int64_t index = int64_t{BlockX()} * kWarps + WarpIndex();
  if (index >= w.row_tiles * w.col_tiles) return;  // the whole warp
  const int64_t row_tile = index / w.col_tiles;
  const int64_t col_tile = index % w.col_tiles;
  Tile<kType, true> tile;
  tile.Load(w, row_tile, col_tile);
  TESSERA_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int64_t row = row_tile * 16 + Lane() / 4 + 8 * half;
    if (row >= w.rows) continue;
    float scale = 1;
    if constexpr (kIsRowScaled<kType>) scale = w.row_scale.Get(row);
    TESSERA_UNROLL
    for (int b = 0; b < 2; ++b) {
      const int64_t begin = (row * w.col_tiles + col_tile) * 64;
      const Bits<4> weights = DecodeEight(tile, b, half, scale);
      if constexpr (kInSixteens<kType>) {
        out.SetBits(begin + OperandColumn<kType>(b, 0),
                    Bits<2>{{weights.word[0], weights.word[1]}});
        out.SetBits(begin + OperandColumn<kType>(b, 1),
                    Bits<2>{{weights.word[2], weights.word[3]}});
      } else {
        out.SetBits(begin + OperandColumn<kType>(b, 0), weights);
      }
    }
  }
}

}  // namespace

int LaunchDequantize(const WeightMatrix& w, BFloat16* out, Stream stream) {
  const WeightPlanes planes = PlanesOf(w);
  if (w.rows == 0 || w.cols == 0) return kLaunched;
  return VisitWeightType(w.dtype, [&]<DType kType>() {
    return Launch("Dequantize", DequantizeKernel<kType>,
                  {.x = CeilDiv(planes.row_tiles * planes.col_tiles, kWarps), .threads = kThreads},
                  stream, planes, TESSERA_VIEW(out, w.rows * BFloat16Pitch(w.cols)));
  });
}

}  // namespace tessera::kernels::cuda
