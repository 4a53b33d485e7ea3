// What keys and values are kept as, and how factors (queries, weights of values) multiply them: one
// struct for each kind.
//
//   Element              of keys and values
//   Factor               what queries and weights become
//   kWidth               how many lie side by side and are multiplied in one step: dimensions of a
//                        key, positions of a value
//   Steps                kLanes steps
//   LoadSteps(p)         kLanes * kWidth elements
//   LoadSome(p, c)       c * kWidth elements, c < kLanes; zeros behind; reads nothing behind
//   SetFactors(p)        kWidth factors, for all lanes
//   AddProducts(sum, steps, factors)
//   StoreFactors(p, v)   kLanes factors, rounded to what is kept of them; gives what they are now
//
// and where a step is a pair:
//
//   LoadFirsts(p, c)     c <= kLanes elements that have no second: zeros
//   KeepFirsts(s) KeepSeconds(s)   zeros in place of the other, whatever stood there
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_ATTENTION_KEPT_H_
#define TESSERA_KERNELS_CPU_ATTENTION_KEPT_H_

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// The first `count` elements at p, kCount of them with zeros behind.
template <int kCount, typename Element>
struct Padded {
  Element values[kCount] = {};

  TESSERA_INLINE Padded(const Element* p, int count) {
    for (int i = 0; i < count; ++i) values[i] = p[i];
  }
};

// KvLayout::kKeysByDim
struct KeptFloat32 {
  using Element = float;
  using Factor = float;
  using Steps = Vec;
  static constexpr int kWidth = 1;

  TESSERA_INLINE static Steps LoadSteps(const float* p) { return Load(p); }
  TESSERA_INLINE static Steps LoadSome(const float* p, int count) { return LoadPartial(p, count); }
  TESSERA_INLINE static Vec SetFactors(const float* p) { return Set(*p); }
  TESSERA_INLINE static Vec AddProducts(Vec sum, Steps steps, Vec factors) {
    return MulAdd(factors, steps, sum);
  }
  TESSERA_INLINE static Vec StoreFactors(float* p, Vec v) {
    Store(p, v);
    return v;
  }
};

#if defined(TESSERA_SIMD_BF16)

// KvLayout::kPairs, multiplied as it is: factors are bfloat16 too.
struct KeptBFloat16 {
  using Element = uint16_t;
  using Factor = uint16_t;
  using Steps = Pairs;
  static constexpr int kWidth = 2;

  TESSERA_INLINE static Steps LoadSteps(const uint16_t* p) { return LoadPairs(p); }
  TESSERA_INLINE static Steps LoadSome(const uint16_t* p, int count) {
    return LoadPairs(Padded<2 * kLanes, uint16_t>(p, 2 * count).values);
  }
  TESSERA_INLINE static Steps LoadFirsts(const uint16_t* p, int count) {
    return TESSERA_ISA::LoadFirsts(Padded<kLanes, uint16_t>(p, count).values);
  }
  TESSERA_INLINE static Steps KeepFirsts(Steps s) { return TESSERA_ISA::KeepFirsts(s); }
  TESSERA_INLINE static Steps KeepSeconds(Steps s) { return TESSERA_ISA::KeepSeconds(s); }
  TESSERA_INLINE static Pairs SetFactors(const uint16_t* p) { return SetPair(p); }
  TESSERA_INLINE static Vec AddProducts(Vec sum, Steps steps, Pairs factors) {
    return AddDots(sum, steps, factors);
  }
  TESSERA_INLINE static Vec StoreFactors(uint16_t* p, Vec v) { return StoreBFloat16(p, v); }
};

#else

// KvLayout::kPairs, widened to float32.
struct KeptBFloat16 {
  using Element = uint16_t;
  using Factor = float;
  struct Steps {
    Vec first;
    Vec second;
  };
  static constexpr int kWidth = 2;

  TESSERA_INLINE static Steps LoadSteps(const uint16_t* p) {
    Steps s;
    LoadBFloat16Pairs(reinterpret_cast<const uint8_t*>(p), &s.first, &s.second);
    return s;
  }
  TESSERA_INLINE static Steps LoadSome(const uint16_t* p, int count) {
    return LoadSteps(Padded<2 * kLanes, uint16_t>(p, 2 * count).values);
  }
  TESSERA_INLINE static Steps LoadFirsts(const uint16_t* p, int count) {
    return {LoadBFloat16(Padded<kLanes, uint16_t>(p, count).values), Zero()};
  }
  TESSERA_INLINE static Steps KeepFirsts(Steps s) { return {s.first, Zero()}; }
  TESSERA_INLINE static Steps KeepSeconds(Steps s) { return {Zero(), s.second}; }
  TESSERA_INLINE static Steps SetFactors(const float* p) { return {Set(p[0]), Set(p[1])}; }
  TESSERA_INLINE static Vec AddProducts(Vec sum, const Steps& steps, const Steps& factors) {
    return MulAdd(factors.second, steps.second, MulAdd(factors.first, steps.first, sum));
  }
  TESSERA_INLINE static Vec StoreFactors(float* p, Vec v) {
    Store(p, v);
    return v;
  }
};

#endif

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ATTENTION_KEPT_H_
