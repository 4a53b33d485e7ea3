// The two loops behind floors.h, compiled once per instruction set like the kernels themselves
// (kernels/cpu/ops.h).
#ifndef TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_
#define TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_

#include <cstdint>

namespace tessera::kernels::cpu {

struct FloorLoops {
  const char* name;
  int64_t operations_per_call;  // of multiply_adds; a multiply-add counts two
  float (*multiply_adds)();
  float (*read_all)(const float* data, int64_t count);  // count: a multiple of 128
};

namespace scalar {
extern const FloorLoops kFloorLoops;
}
namespace avx2 {
extern const FloorLoops kFloorLoops;
}
namespace avx512 {
extern const FloorLoops kFloorLoops;
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_
