// RMSNorm of rows, alone, with the residual add before it or behind it, or in two halves where the
// columns are spread over ranks: one block per row, the row kept in
// registers between its two uses, so each input is read once and each output written once: 4 (plain)
// or 8 bytes of traffic per element. Rows that do not fit the registers are read again.
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeld = 4;  // vectors of 8 per thread that stay in registers: rows up to 8192

struct RmsNormArgs {
  View<const BFloat16> y;  // null: no residual
  View<const float> weight;
  View<BFloat16> x;  // with a residual: becomes x + y; without, it is only read
  View<BFloat16> out;
  float scale = 1;  // of y
  float eps = 0;
  int64_t cols = 0;
  bool aligned = false;  // every row starts at 16 bytes
};

// Elements [col, col + 8) of the row at `row`, summed with the residual and rounded as they will be
// stored; zeros behind the last.
template <bool kAdd>
TESSERA_DEVICE Bits<4> LoadSum(const RmsNormArgs& args, int64_t row, int64_t col) {
  Bits<4> x = LoadEight(args.x, row + col, args.cols - col, args.aligned);
  if constexpr (kAdd) {
    const Floats8 a = UnpackBf16(x);
    const Floats8 b = UnpackBf16(LoadEight(args.y, row + col, args.cols - col, args.aligned));
    Floats8 sum;
    TESSERA_UNROLL
    for (int i = 0; i < 8; ++i) sum.v[i] = a.v[i] + args.scale * b.v[i];
    x = PackBf16(sum);
  }
  return x;
}

TESSERA_DEVICE void StoreEight(const View<BFloat16>& view, int64_t begin, int64_t valid,
                               bool aligned, const Bits<4>& bits) {
  if (aligned && valid >= 8) return view.SetBits(begin, bits);
  TESSERA_UNROLL
  for (int i = 0; i < 8; ++i) {
    if (i < valid) {
      view.Set(begin + i, BFloat16{static_cast<uint16_t>(bits.word[i / 2] >> (i % 2 * 16))});
    }
  }
}

TESSERA_DEVICE float SumOfSquares(const Bits<4>& bits) {
  const Floats8 x = UnpackBf16(bits);
  float sum = 0;
  TESSERA_UNROLL
  for (int i = 0; i < 8; ++i) sum += x.v[i] * x.v[i];
  return sum;
}

TESSERA_DEVICE void Normalize(const RmsNormArgs& args, int64_t row, int64_t col, float factor,
                              const Bits<4>& bits) {
  Floats8 x = UnpackBf16(bits);
  TESSERA_UNROLL
  for (int i = 0; i < 8; ++i) {
    if (col + i < args.cols) x.v[i] = x.v[i] * factor * args.weight.Get(col + i);
  }
  StoreEight(args.out, row + col, args.cols - col, args.aligned, PackBf16(x));
}

template <bool kAdd>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void RmsNormKernel(RmsNormArgs args) {
  TESSERA_SHARED(float, partial, kThreads / 32);
  const int64_t row = BlockX() * args.cols;
  Bits<4> held[kHeld];
  float squares = 0;
  TESSERA_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const int64_t col = 8 * (i * kThreads + ThreadIndex());
    if (col < args.cols) {
      held[i] = LoadSum<kAdd>(args, row, col);
      squares += SumOfSquares(held[i]);
      if (kAdd) StoreEight(args.x, row + col, args.cols - col, args.aligned, held[i]);
    }
  }
  const int64_t rest = 8 * (kHeld * kThreads + ThreadIndex());
  for (int64_t col = rest; col < args.cols; col += 8 * kThreads) {
    const Bits<4> sum = LoadSum<kAdd>(args, row, col);
    squares += SumOfSquares(sum);
    if (kAdd) StoreEight(args.x, row + col, args.cols - col, args.aligned, sum);
  }
  const float mean = BlockSum<kThreads>(squares, partial) / static_cast<float>(args.cols);
  const float factor = Rsqrt(mean + args.eps);
  TESSERA_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    const int64_t col = 8 * (i * kThreads + ThreadIndex());
    if (col < args.cols) Normalize(args, row, col, factor, held[i]);
  }
  for (int64_t col = rest; col < args.cols; col += 8 * kThreads) {
    const Bits<4> x = LoadEight(args.x, row + col, args.cols - col, args.aligned);
    Normalize(args, row, col, factor, x);
  }
}

// x += scale * RmsNorm(y), where y is read twice: the second time out of the cache.
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void AddNormedKernel(RmsNormArgs args) {
  TESSERA_SHARED(float, partial, kThreads / 32);
  const int64_t row = BlockX() * args.cols;
  float squares = 0;
  for (int64_t col = 8 * ThreadIndex(); col < args.cols; col += 8 * kThreads) {
    squares += SumOfSquares(LoadEight(args.y, row + col, args.cols - col, args.aligned));
  }
  const float mean = BlockSum<kThreads>(squares, partial) / static_cast<float>(args.cols);
  const float factor = args.scale * Rsqrt(mean + args.eps);
  for (int64_t col = 8 * ThreadIndex(); col < args.cols; col += 8 * kThreads) {
    const Floats8 y = UnpackBf16(LoadEight(args.y, row + col, args.cols - col, args.aligned));
    Floats8 x = UnpackBf16(LoadEight(args.x, row + col, args.cols - col, args.aligned));
    TESSERA_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (col + i < args.cols) x.v[i] += y.v[i] * factor * args.weight.Get(col + i);
    }
    StoreEight(args.x, row + col, args.cols - col, args.aligned, PackBf16(x));
  }
}

// One element after the other: the columns are a few heads that begin anywhere.
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void SumSquaresKernel(View<const BFloat16> x,
                                                                        int64_t cols, int64_t begin,
                                                                        int64_t end,
                                                                        View<float> sums) {
  TESSERA_SHARED(float, partial, kThreads / 32);
  float squares = 0;
  for (int64_t col = begin + ThreadIndex(); col < end; col += kThreads) {
    const float value = ToFloat(x.Get(BlockX() * cols + col));
    squares += value * value;
  }
  const float sum = BlockSum<kThreads>(squares, partial);
  if (ThreadIndex() == 0) sums.Set(BlockX(), sum);
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void NormalizeBySumsKernel(
    View<const float> sums, float width, View<const float> weight, float eps, int64_t cols,
    View<BFloat16> x) {
  const float factor = Rsqrt(sums.Get(BlockX()) / width + eps);
  for (int64_t col = ThreadIndex(); col < cols; col += kThreads) {
    const int64_t i = BlockX() * cols + col;
    x.Set(i, FloatToBf16(ToFloat(x.Get(i)) * factor * weight.Get(col)));
  }
}

}  // namespace

int LaunchRmsNorm(const BFloat16* x, const float* weight, float eps, int64_t rows, int64_t cols,
                  BFloat16* out, Stream stream) {
  if (rows == 0) return kLaunched;
  RmsNormArgs args;
  args.weight = TESSERA_VIEW(weight, cols);
  args.x = TESSERA_VIEW(const_cast<BFloat16*>(x), rows * cols);  // only read
  args.out = TESSERA_VIEW(out, rows * cols);
  args.eps = eps;
  args.cols = cols;
  args.aligned = cols % 8 == 0 && IsAligned16(x) && IsAligned16(out);
  return Launch("RmsNorm", RmsNormKernel<false>, {.x = rows, .threads = kThreads}, stream, args);
}

int LaunchAddRmsNorm(const BFloat16* y, float scale, const float* weight, float eps, int64_t rows,
                     int64_t cols, BFloat16* x, BFloat16* out, Stream stream) {
  if (rows == 0) return kLaunched;
  RmsNormArgs args;
  args.y = TESSERA_VIEW(y, rows * cols);
  args.weight = TESSERA_VIEW(weight, cols);
  args.x = TESSERA_VIEW(x, rows * cols);
  args.out = TESSERA_VIEW(out, rows * cols);
  args.scale = scale;
  args.eps = eps;
  args.cols = cols;
  args.aligned = cols % 8 == 0 && IsAligned16(x) && IsAligned16(y) && IsAligned16(out);
  return Launch("AddRmsNorm", RmsNormKernel<true>, {.x = rows, .threads = kThreads}, stream, args);
}

int LaunchAddNormed(const BFloat16* y, float scale, const float* weight, float eps, int64_t rows,
                    int64_t cols, BFloat16* x, Stream stream) {
  if (rows == 0) return kLaunched;
  RmsNormArgs args;
  args.y = TESSERA_VIEW(y, rows * cols);
  args.weight = TESSERA_VIEW(weight, cols);
  args.x = TESSERA_VIEW(x, rows * cols);
  args.scale = scale;
  args.eps = eps;
  args.cols = cols;
  args.aligned = cols % 8 == 0 && IsAligned16(x) && IsAligned16(y);
  return Launch("AddNormed", AddNormedKernel, {.x = rows, .threads = kThreads}, stream, args);
}

int LaunchSumSquares(const BFloat16* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                     float* sums, Stream stream) {
  if (rows == 0) return kLaunched;
  return Launch("SumSquares", SumSquaresKernel, {.x = rows, .threads = kThreads}, stream,
                TESSERA_VIEW(x, rows * cols), cols, begin, end, TESSERA_VIEW(sums, rows));
}

int LaunchNormalizeBySums(const float* sums, int64_t width, const float* weight, float eps,
                          int64_t rows, int64_t cols, BFloat16* x, Stream stream) {
  if (rows == 0) return kLaunched;
  return Launch("NormalizeBySums", NormalizeBySumsKernel, {.x = rows, .threads = kThreads}, stream,
                TESSERA_VIEW(sums, rows), static_cast<float>(width), TESSERA_VIEW(weight, cols),
                eps, cols, TESSERA_VIEW(x, rows * cols));
}

}  // namespace tessera::kernels::cuda
