#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

// x / (1 + e^-x). Exp clamps, so the quotient stays finite for any finite x.
TESSERA_INLINE Vec Silu(Vec x) { return Div(x, Add(Set(1.0f), Exp(Sub(Zero(), x)))); }

}  // namespace

void SiluMul(const float* gate, const float* up, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(out + i, Mul(Silu(Load(gate + i)), Load(up + i)));
  }
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    const Vec result = Mul(Silu(LoadPartial(gate + i, rest)), LoadPartial(up + i, rest));
    StorePartial(out + i, result, rest);
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
