#include "benchmarks/kernels/floor_loops.h"

#include "kernels/cpu/simd.h"

#define TESSERA_QUOTE_INNER(x) #x
#define TESSERA_QUOTE(x) TESSERA_QUOTE_INNER(x)

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kChains = 12;
constexpr int kRounds = 4096;

float MultiplyAdds() {
  Vec sums[kChains];
  for (Vec& sum : sums) sum = Zero();
  float one = 0.999f;
  float other = 0.5f;
  asm volatile("" : "+x"(one), "+x"(other));  // values the compiler cannot compute with
  const Vec factor = Set(one);
  const Vec term = Set(other);
#pragma GCC unroll 1
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = MulAdd(sums[c], factor, term);
  }
  Vec total = Zero();
  for (const Vec& sum : sums) total = Add(total, sum);
  return ReduceSum(total);
}

float ReadAll(const float* data, int64_t count) {
  Vec sums[8];
  for (Vec& sum : sums) sum = Zero();
  for (int64_t i = 0; i < count; i += 8 * kLanes) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) sums[k] = Add(sums[k], Load(data + i + k * kLanes));
  }
  Vec total = Zero();
  for (const Vec& sum : sums) total = Add(total, sum);
  return ReduceSum(total);
}

}  // namespace

const FloorLoops kFloorLoops = {
    .name = TESSERA_QUOTE(TESSERA_ISA),
    .operations_per_call = int64_t{2} * kLanes * kChains * kRounds,
    .multiply_adds = MultiplyAdds,
    .read_all = ReadAll,
};

}  // namespace tessera::kernels::cpu::TESSERA_ISA
