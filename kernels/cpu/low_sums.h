// The low planes of peaked blocks (matmul_input.h), which most blocks of most tokens have none of.
// Their sums are kept in memory, while those of the high planes stay in registers.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_LOW_SUMS_H_
#define TESSERA_KERNELS_CPU_LOW_SUMS_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

constexpr float kLowUnit = 1.0f / 128;  // of the low plane in units of the high one

// visit(t) for every token t whose bit is set in `peaked`.
template <int kTokens, typename Visitor>
TESSERA_INLINE void VisitPeaked(uint32_t peaked, const Visitor& visit) {
  for (; peaked != 0; peaked &= peaked - 1) visit(kTokens == 1 ? 0 : __builtin_ctz(peaked));
}

template <int kTokens>
class LowSums {
 public:
  TESSERA_INLINE LowSums() {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) Store(sums_ + t * kLanes, Zero());
  }

  // add(t, sum) -> sum plus what the block gives token t, for every token whose bit is set.
  template <typename AddTo>
  TESSERA_INLINE void AddBlock(uint32_t peaked, const AddTo& add) {
    any_ |= peaked;
    VisitPeaked<kTokens>(peaked, [&](int t) __attribute__((always_inline)) {
      Store(sums_ + t * kLanes, add(t, Load(sums_ + t * kLanes)));
    });
  }

  // Adds all of them to `sums`.
  TESSERA_INLINE void MoveTo(Vec* sums) const {
    if (any_ == 0) return;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) sums[t] = Add(sums[t], Load(sums_ + t * kLanes));
  }

 private:
  uint32_t any_ = 0;  // of the peaked bits
  alignas(64) float sums_[kTokens * kLanes];
};

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_LOW_SUMS_H_
