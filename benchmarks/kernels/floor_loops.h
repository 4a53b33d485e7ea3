// The loops behind floors.h, compiled once per instruction set like the kernels themselves
// (kernels/cpu/ops.h).
#ifndef TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_
#define TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_

#include <cstdint>

namespace tessera::kernels::cpu {

// A loop over registers alone, and what one call of it computes; a multiply-add counts two. Null
// where the set has no such instruction.
struct PeakLoop {
  void (*run)() = nullptr;
  int64_t operations = 0;
};

struct FloorLoops {
  const char* name;
  PeakLoop float32;
  PeakLoop int8_dots;      // VNNI
  PeakLoop bfloat16_dots;  // of vectors
  PeakLoop int8_tiles;     // AMX
  PeakLoop bfloat16_tiles;
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
namespace avx512vnni {
extern const FloorLoops kFloorLoops;
}
namespace avx512bf16 {
extern const FloorLoops kFloorLoops;
}
namespace amx {
extern const FloorLoops kFloorLoops;
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_BENCHMARKS_KERNELS_FLOOR_LOOPS_H_
