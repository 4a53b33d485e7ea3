// Sums of the low planes of peaked blocks (matmul_input.h), which most blocks of most tokens have
// none of: kept in memory, while those of the high planes stay in registers.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_LOW_SUMS_H_
#define TESSERA_KERNELS_CPU_LOW_SUMS_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr float kLowUnit = 1.0f / 128;  // of the low plane in units of the high one

template <int kTokens>
class LowSums {
 public:
  TESSERA_INLINE LowSums() {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) Store(sums_ + t * kLanes, Zero());
  }

  // add(t, sum) -> sum plus what the block gives token t, for every token whose bit is set.
  template <typename AddTo>
  TESSERA_INLINE void AddBlock(uint32_t tokens, const AddTo& add) {
    if (tokens == 0) return;
    any_ = true;
    for (; tokens != 0; tokens &= tokens - 1) {
      const int t = kTokens == 1 ? 0 : __builtin_ctz(tokens);
      Store(sums_ + t * kLanes, add(t, Load(sums_ + t * kLanes)));
    }
  }

  // Adds all of them to `sums` and begins anew.
  TESSERA_INLINE void MoveTo(Vec* sums) {
    if (!any_) return;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = Add(sums[t], Load(sums_ + t * kLanes));
      Store(sums_ + t * kLanes, Zero());
    }
    any_ = false;
  }

 private:
  bool any_ = false;
  alignas(64) float sums_[kTokens * kLanes];
};

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_LOW_SUMS_H_
