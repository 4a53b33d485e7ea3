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

}  // namespace

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
             float* out) {
  for (int64_t r = 0; r < rows; ++r, x += cols, out += cols) {
    const float mean = SumOfSquares(x, cols) / static_cast<float>(cols);
    const Vec scale = Set(1.0f / __builtin_sqrtf(mean + eps));
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
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
