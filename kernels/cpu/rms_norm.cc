#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

float SumOfSquares(const float* x, int64_t cols) {
  Vec sum = Zero();
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    const Vec v = Load(x + i);
    sum = MulAdd(v, v, sum);
  }
  if (i < cols) {
    const Vec v = LoadPartial(x + i, static_cast<int>(cols - i));
    sum = MulAdd(v, v, sum);
  }
  return ReduceSum(sum);
}

// In eight sums side by side, whatever the instruction set.
template <typename T>
double SumOfSquaresInDouble(const T* x, int64_t count) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int j = 0; j < 8; ++j) {
      const double v = static_cast<double>(x[i + j]);
      sums[j] += v * v;
    }
  }
  for (int j = 0; i < count; ++i, ++j) {
    const double v = static_cast<double>(x[i]);
    sums[j] += v * v;
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

void ScaleRow(const float* x, float factor, const float* weight, int64_t cols, float* out) {
  const Vec scale = Set(factor);
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    Store(out + i, Mul(Mul(Load(x + i), scale), Load(weight + i)));
  }
  if (i < cols) {
    const int rest = static_cast<int>(cols - i);
    const Vec v = Mul(LoadPartial(x + i, rest), scale);
    StorePartial(out + i, Mul(v, LoadPartial(weight + i, rest)), rest);
  }
}

}  // namespace

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
             float* out) {
  for (int64_t r = 0; r < rows; ++r, x += cols, out += cols) {
    const float mean = SumOfSquares(x, cols) / static_cast<float>(cols);
    ScaleRow(x, 1.0f / __builtin_sqrtf(mean + eps), weight, cols, out);
  }
}

void AddNormed(const double* y, double scale, const float* weight, float eps, int64_t rows,
               int64_t cols, float* x) {
  for (int64_t r = 0; r < rows; ++r, y += cols, x += cols) {
    const double mean = SumOfSquaresInDouble(y, cols) / static_cast<double>(cols);
    const double factor = scale / __builtin_sqrt(mean + static_cast<double>(eps));
    for (int64_t i = 0; i < cols; ++i) {
      const double added = factor * y[i] * static_cast<double>(weight[i]);
      x[i] = static_cast<float>(static_cast<double>(x[i]) + added);
    }
  }
}

void SumSquares(const float* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                double* sums) {
  for (int64_t r = 0; r < rows; ++r, x += cols) {
    sums[r] = SumOfSquaresInDouble(x + begin, end - begin);
  }
}

void NormalizeBySums(const double* sums, int64_t width, const float* weight, float eps,
                     int64_t rows, int64_t cols, float* x) {
  for (int64_t r = 0; r < rows; ++r, x += cols) {
    const double mean = sums[r] / static_cast<double>(width);
    const double factor = 1.0 / __builtin_sqrt(mean + static_cast<double>(eps));
    ScaleRow(x, static_cast<float>(factor), weight, cols, x);
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
