#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

void Add(const double* y, double scale, int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(static_cast<double>(x[i]) + scale * y[i]);
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
