// What this card does at best, measured: the floor under every share that the benchmark prints.
#ifndef TESSERA_BENCHMARKS_GPU_CARD_LIMITS_H_
#define TESSERA_BENCHMARKS_GPU_CARD_LIMITS_H_

#include "absl/status/statusor.h"

namespace tessera::gpu_bench {

struct CardLimits {
  double copy_bytes_per_second = 0;  // read and written, of a copy of 1 GiB within its memory
  double matrix_flops = 0;           // bf16, 8192 x 8192 x 8192 through cuBLASLt
  double upload_bytes_per_second = 0;  // from pinned host memory
};
absl::StatusOr<CardLimits> MeasureCard(int gpu);

}  // namespace tessera::gpu_bench

#endif  // TESSERA_BENCHMARKS_GPU_CARD_LIMITS_H_
